"use strict";
const get = id => document.getElementById(id);
const DATA = JSON.parse(get("data").textContent);
const ROLE = Object.fromEntries(DATA.roles.map((name, number) => [name, number]));
const list = get("images"), dialog = document.querySelector("dialog"), stage = get("stage"), tip = get("tip");
const canvas = stage.querySelector("canvas"), brush = canvas.getContext("2d");
const STEP = 60;  // images put on the page at once: thousands would make every search slow
const PALETTE = [[255,89,94],[54,197,240],[255,202,58],[160,108,255],[138,201,38],[255,146,43],[0,214,170],[255,112,197],[90,140,255],[214,255,94],[255,160,150],[120,255,230]];
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const channels = colour => colour.match(/\w\w/g).map(part => parseInt(part, 16));
const ROLES = {hit: css("--hit"), false: css("--false"), missed: css("--missed"), ignored: "#9aa4ae", found: "#ffffff"};
const show1 = number => number.toLocaleString("en", {maximumFractionDigits: 1});
const limit = value => value.toLocaleString("en", {maximumFractionDigits: Math.abs(value) < 10 ? 1 : 0});  // of an axis
const number = (value, one, several) => `${show1(value)} ${value === 1 ? one : several}`;
const signed = number => (number > 0 ? "+" : "") + show1(number);
const percent = share => `${(100 * share).toFixed(1)} %`;

// ------------------------------------------------------------------------------------------------ the gallery

const images = DATA.images;
tellApart(images);
images.forEach((image, rank) => {
  image.rank = rank;
  image.error = DATA.compared ? image.count - image.true : 0;
  image.button = card(image);
});
const orders = {
  error: image => -Math.abs(image.error),
  relative: image => -Math.abs(image.error) / Math.max(image.true, 1),
  over: image => -image.error,
  under: image => image.error,
  f1: image => image.f1 ?? 2,
  iou: image => image.iou ?? 2,
  "-count": image => -image.count,
  count: image => image.count,
};
const byName = (a, b) => a.name.localeCompare(b.name, undefined, {numeric: true});
let chosen = images;

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function tellApart(images) {  // shown: the last parts of the name, as few as no other image has
  images.forEach(image => { image.parts = image.name.split("/"); image.shown = image.parts.pop(); });
  for (let unclear = images; unclear.length;) {
    const held = new Map();
    for (const {shown} of images) held.set(shown, (held.get(shown) ?? 0) + 1);
    unclear = images.filter(image => held.get(image.shown) > 1 && image.parts.length);
    for (const image of unclear) image.shown = `${image.parts.pop()}/${image.shown}`;
  }
}

function card(image) {
  const picture = element("img", {alt: "", loading: "lazy", decoding: "async", src: "data:image/jpeg;base64," + image.thumbnail});
  const button = element("button", {type: "button", className: "image", title: image.name}, picture,
    element("b", {textContent: DATA.compared ? `error ${signed(image.error)}` : summary(image)}));
  if (DATA.compared) button.append(element("span", {textContent: summary(image)}));
  button.append(element("span", {textContent: image.shown}));
  button.addEventListener("click", () => view(image));
  return element("li", {}, button);
}

function summary(image) {
  if (!DATA.compared) return number(image.count, "person", "people");
  return `${show1(image.count)} found, ${show1(image.true)} true`;
}

function choose() {
  const part = get("search").value.toLowerCase(), order = orders[get("order").value];
  images.sort(order ? (a, b) => order(a) - order(b) || a.rank - b.rank : byName);
  chosen = images.filter(image => image.name.toLowerCase().includes(part));
  list.replaceChildren();
  more();
  const all = number(images.length, "image", "images");
  get("shown").textContent = chosen.length === images.length ? all : `${chosen.length} of ${all}`;
}

function more() {
  const from = list.children.length;
  list.append(...chosen.slice(from, from + STEP).map(image => image.button));
  const left = chosen.length - list.children.length;
  get("more").hidden = left === 0;
  get("more").textContent = `show more (${left} left)`;
}

function reach(image) {
  while (chosen.includes(image) && !image.button.isConnected) more();
  image.button.firstChild.focus();
}

function step(key) {  // to the neighbour in the grid; arrows up and down go by rows
  const from = chosen.findIndex(image => image.button.firstChild === document.activeElement);
  const columns = getComputedStyle(list).gridTemplateColumns.split(" ").length;
  const to = from + {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns}[key];
  if (from < 0 || !chosen[to]) return false;
  reach(chosen[to]);
  return true;
}

for (const name of ["f1", "iou"])
  if (images.every(image => image[name] == null)) document.querySelector(`#order [value=${name}]`)?.remove();
get("order").addEventListener("change", choose);
get("search").addEventListener("input", choose);
get("more").addEventListener("click", more);

// ------------------------------------------------------------------------------------------------ the plots

const SVG = "http://www.w3.org/2000/svg", WIDTH = 320, HEIGHT = 230, LETTER = 6.4;  // width of a digit
const RIM = 38;  // around a plot, for what stands beside its axes

function drawn(tag, attributes, text = "") {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = text;
  return made;
}

function scale(low, high, log) {  // value -> 0..1; logarithmic where values are of several magnitudes
  const bend = value => log ? Math.log10(1 + Math.max(0, value)) : value;
  return value => (bend(value) - bend(low)) / (bend(high) - bend(low) || 1);
}

const median = values => [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0;

function axes(dots, diagonal) {
  const xs = dots.map(dot => dot.x), ys = dots.map(dot => dot.y);
  const greatest = values => values.reduce((most, value) => Math.max(most, value), 1);
  const mostX = diagonal ? greatest([...xs, ...ys]) : greatest(xs), log = mostX > 10 * Math.max(1, median(xs));
  const x = scale(0, mostX, log);
  if (diagonal) return {x, y: scale(0, mostX, log), low: 0, mostX, mostY: mostX};
  const reach = greatest(ys.map(Math.abs));
  return {x, y: scale(-reach, reach, false), low: -reach, mostX, mostY: reach};
}

function scatter(place, name, dots, diagonal) {
  const {x, y, low, mostX, mostY} = axes(dots, diagonal), limits = [mostY, low].map(limit);
  const rim = Math.max(RIM, 10 + LETTER * Math.max(...limits.map(text => text.length)));
  const inner = {width: WIDTH - rim - 10, height: HEIGHT - RIM - 10};
  const right = value => (rim + inner.width * x(value)).toFixed(1), up = value => (10 + inner.height * (1 - y(value))).toFixed(1);
  const svg = drawn("svg", {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, tabindex: 0, role: "listbox", "aria-label": `${name}, ${number(dots.length, "image", "images")}. Arrows go from one to the next, Enter opens it.`});
  svg.append(drawn("line", {class: "axis", x1: right(0), y1: up(0), x2: right(mostX), y2: up(diagonal ? mostX : 0)}));
  for (const [text, at] of [["0", [right(0), HEIGHT - 12]], [limit(mostX), [right(mostX), HEIGHT - 12, "end"]]])
    svg.append(drawn("text", {x: at[0], y: at[1], "text-anchor": at[2] ?? "start"}, text));
  for (const [text, at] of [[limits[0], mostY], [limits[1], low]])
    svg.append(drawn("text", {x: rim - 5, y: +up(at) + 4, "text-anchor": "end"}, text));
  const circles = dots.map((dot, index) => {
    const circle = drawn("circle", {cx: right(dot.x), cy: up(dot.y), r: 4, role: "option", id: `${place}-${index}`, "aria-label": dot.text});
    circle.append(drawn("title", {}, dot.text));
    circle.classList.toggle("gone", !dot.image);
    if (dot.image) circle.addEventListener("click", () => view(dot.image));
    return circle;
  });
  svg.append(...circles);
  walk(svg, circles, dots);
  get(place).replaceChildren(svg);
}

function walk(svg, circles, dots) {  // one stop of the Tab key for a whole plot
  const order = dots.map((_, number) => number).sort((a, b) => dots[a].x - dots[b].x);
  let at = -1;
  const go = to => {
    circles[order[at]]?.classList.remove("at");
    at = Math.max(0, Math.min(order.length - 1, to));
    circles[order[at]].classList.add("at");
    svg.setAttribute("aria-activedescendant", circles[order[at]].id);
  };
  svg.addEventListener("keydown", event => {
    const by = {ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1}[event.key];
    if (by) { event.preventDefault(); go(at + by); }
    else if (event.key === "Enter" && dots[order[at]]?.image) { event.preventDefault(); view(dots[order[at]].image); }
  });
}

function plots() {
  const shown = new Map(images.map(image => [image.place, image]));
  const dots = DATA.dots.map(([truth, count, density], place) => {
    const image = shown.get(place), name = image ? image.name : "an image that is left out";
    return {truth, count, density, image, text: `${name}: ${show1(count)} found, ${truth} true`};
  });
  scatter("scatter", "Found against true counts", dots.map(dot => ({...dot, x: dot.truth, y: dot.count})), true);
  scatter("density-errors", "Error by density", dots.map(dot => ({...dot, x: dot.density, y: dot.count - dot.truth})), false);
}

// ------------------------------------------------------------------------------------------------ one image

// {image, people, tiles, layers: canvases, view: {k, x, y}: image pixels to those of the screen, fitted: it is by fit()}
let open = null;
let picked = -1;

function bytes(text) {
  const letters = atob(text), out = new Uint8Array(letters.length);
  for (let i = 0; i < out.length; i++) out[i] = letters.charCodeAt(i);
  return out;
}

async function inflate(text) {
  const stream = new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function unpack(details) {  // page_people.py packs
  const content = await inflate(details.people), n = details.number, r = details.runs;
  let at = 0;
  const column = length => {
    const out = new Uint32Array(length);
    for (let plane = 0; plane < 4; plane++)
      for (let i = 0; i < length; i++) out[i] |= content[at++] << (8 * plane);
    return out;
  };
  const people = {n, x: column(n), y: column(n), score: column(n), area: column(n), role: column(n), runs: column(n)};
  return {...people, labels: labels(people, column(r), column(r), details.masks)};
}

function labels(people, gaps, lengths, size) {
  if (!size) return null;
  const [height, width] = size, map = new Uint32Array(height * width);
  let position = 0, run = 0;
  for (let person = 0; person < people.n; person++)
    for (let last = run + people.runs[person]; run < last; run++) {
      position += width + (gaps[run] & 1 ? -(gaps[run] + 1) / 2 : gaps[run] / 2);
      map.fill(person + 1, position, position + lengths[run]);
    }
  return {map, height, width};
}

let asked = null;

async function view(image) {
  if (!window.DecompressionStream) { get("old").hidden = false; get("old").scrollIntoView(); return; }
  const turning = dialog.open;
  asked = image;
  const details = JSON.parse(get(`image-${image.rank}`).textContent);
  const people = await unpack(details);
  const thumbnail = await decoded(image.thumbnail);
  if (asked !== image || turning && !dialog.open) return;  // another one was asked for meanwhile, or none any more
  const columns = Math.ceil(details.picture[1] / DATA.tile);
  open = {image, people, thumbnail, picture: details.picture, layers: {}, view: null,
    tiles: details.tiles.map((jpeg, number) => ({jpeg, left: number % columns * DATA.tile, top: Math.floor(number / columns) * DATA.tile}))};
  picked = -1;
  if (!chosen.includes(image)) {  // a dot of a plot, which is not searched for
    get("search").value = "";
    choose();
  }
  heading();
  if (!dialog.open) { dialog.showModal(); enter(); }
  stage.focus();
  fit();
}

const LARGE = "large";  // state of the page's history where an image is large: the back button closes it
let leaving = false;  // on the way back by ourselves

function enter() {
  if (history.state === LARGE) return;  // on the way back still, or loaded anew
  try {
    history.scrollRestoration = "manual";  // closed, the page scrolls to the image that was looked at last
    history.pushState(LARGE, "");
  } catch { /* not permitted here: the back button leaves the page */ }
}

function leave() {
  if (history.state !== LARGE || leaving) return;
  leaving = true;
  history.back();
}

addEventListener("popstate", () => {
  if (leaving) { leaving = false; if (dialog.open) enter(); }
  else if (dialog.open && history.state !== LARGE) dialog.close();
});

function decoded(jpeg) {
  const picture = new Image();
  picture.src = "data:image/jpeg;base64," + jpeg;
  return picture.decode().then(() => picture);
}

function heading() {
  const {image, people, picture} = open, place = chosen.indexOf(image);
  const quality = [["F1 of points", image.f1], ["IoU of masks", image.iou]].filter(pair => pair[1] != null).map(([name, value]) => `, ${name} ${percent(value)}`);
  get("heading").replaceChildren(element("b", {textContent: image.name}), `: ${summary(image)}${quality.join("")} · ${place + 1} of ${chosen.length}`);
  get("previous").disabled = place <= 0;
  get("next").disabled = place < 0 || place === chosen.length - 1;
  get("masks").disabled = !people.labels;
  get("points").disabled = get("density").disabled = !people.n;
  const remarks = [];
  if (picture[0] < image.size[0]) remarks.push(`shown at ${picture[1]} × ${picture[0]} of ${image.size[1]} × ${image.size[0]} px`);
  if (image.unmasked) remarks.push("masks are left out");
  get("remark").textContent = remarks.join("; ");
  key();
}

function key() {
  const named = [["hit", `hit${DISTANCE && ` within ${DISTANCE}`}`], ["false", "false"], ["missed", "missed"], ["ignored", "in an ignored region"]];
  const counts = DATA.roles.map((_, role) => open.people.role.reduce((sum, other) => sum + (other === role), 0));
  const entries = named.filter(([role]) => counts[ROLE[role]]).map(([role, text]) => {
    const mark = element("canvas", {width: MARK, height: MARK});
    const made = sprite(role, 5);
    mark.getContext("2d").drawImage(made, 0, 0, MARK, MARK);
    return element("span", {}, mark, `${text}: ${show1(counts[ROLE[role]])}`);
  });
  if (get("density").checked) entries.push(element("span", {textContent: densest()}));
  get("key").replaceChildren(...entries);
}

function turn(by) {
  const next = chosen[chosen.indexOf(open.image) + by];
  if (next) view(next);
}

// ------------------------------------------------------------------------------------------------ layers over it

function layer(name, make) {
  if (!(name in open.layers)) open.layers[name] = make();
  return open.layers[name];
}

function pixels(width, height, paint) {
  const made = element("canvas", {width, height}), ink = made.getContext("2d"), data = ink.createImageData(width, height);
  paint(data.data);
  ink.putImageData(data, 0, 0);
  return made;
}

function colours(people) {
  const byRole = DATA.roles.map(name => channels(ROLES[name]));
  return person => people.role[person] === ROLE.found ? PALETTE[person * 5 % PALETTE.length] : byRole[people.role[person]];
}

function masksLayer() {
  const {labels: {map, height, width}} = open.people, colour = colours(open.people);
  return pixels(width, height, data => {
    for (let i = 0; i < map.length; i++) {
      const label = map[i], column = i % width;
      if (!label) continue;
      const edge = !column || column === width - 1 || map[i - 1] !== label || map[i + 1] !== label || map[i - width] !== label || map[i + width] !== label;
      const [red, green, blue] = colour(label - 1);
      data.set([red, green, blue, edge ? 230 : 85], 4 * i);
    }
  });
}

const GRID = 192;  // cells along the longer side of a density map
const SPREAD = 0.025;  // of it, standard deviation of a person

function densityLayer() {
  const {people, image: {size: [height, width]}} = open, cell = Math.max(height, width) / GRID;
  const columns = Math.max(1, Math.ceil(width / cell)), rows = Math.max(1, Math.ceil(height / cell));
  let field = new Float32Array(columns * rows);
  for (let i = 0; i < people.n; i++)
    if (people.role[i] !== ROLE.missed) field[Math.min(rows - 1, Math.floor(people.y[i] / cell)) * columns + Math.min(columns - 1, Math.floor(people.x[i] / cell))] += 1;
  field = blurred(blurred(field, columns, rows, 1), columns, rows, columns);
  const most = field.reduce((a, b) => Math.max(a, b), 0);
  const made = pixels(columns, rows, data => field.forEach((value, i) => {
    const share = most ? value / most : 0;
    data.set([255 * Math.min(1, 2 * share), 255 * Math.min(1, 1.6 * Math.abs(share - .35) + .1), 255 * Math.max(0, 1 - 1.6 * share), 215 * Math.min(1, 3 * share)], 4 * i);
  }));
  return {made, most: most / (cell * cell)};
}

function blurred(field, columns, rows, stride) {  // along one axis: a stride of 1 is along the rows
  const sigma = SPREAD * GRID, reach = Math.ceil(3 * sigma), out = new Float32Array(field.length);
  const weights = Array.from({length: 2 * reach + 1}, (_, i) => Math.exp(-(((i - reach) / sigma) ** 2) / 2));
  const sum = weights.reduce((a, b) => a + b), length = stride === 1 ? columns : rows;
  for (let i = 0; i < field.length; i++) {
    if (!field[i]) continue;
    const place = stride === 1 ? i % columns : Math.floor(i / columns);
    for (let by = Math.max(-reach, -place); by <= Math.min(reach, length - 1 - place); by++)
      out[i + by * stride] += field[i] * weights[by + reach] / sum;
  }
  return out;
}

function densest() {
  const side = Math.max(...open.image.size) / 10;
  return `densest: ${show1(layer("density", densityLayer).most * side * side)} people in ${Math.round(side)} × ${Math.round(side)} px`;
}

function maskOf(person) {  // the outline of one, for the one who is pointed at
  const {labels: {map, height, width}} = open.people;
  return pixels(width, height, data => {
    for (let i = 0; i < map.length; i++)
      if (map[i] === person + 1) data.set([255, 255, 255, 150], 4 * i);
  });
}

const sprites = {}, MARK = 36;  // px, of a mark in the key: for screens of twice as many pixels

function sprite(role, size) {  // drawing thousands of ready pictures is fast, drawing as many circles is not
  const name = `${role} ${size} ${devicePixelRatio}`;
  if (!sprites[name]) {
    const side = Math.ceil(2 * size + 4), made = element("canvas", {width: side * devicePixelRatio, height: side * devicePixelRatio}), ink = made.getContext("2d");
    ink.scale(devicePixelRatio, devicePixelRatio);
    ink.translate(side / 2, side / 2);
    for (const [colour, wider] of [["rgb(0 0 0 / .75)", Math.min(1.2, size / 2)], [ROLES[role], 0]]) shape(ink, role, size, colour, wider);
    sprites[name] = made;
  }
  return sprites[name];
}

function shape(ink, role, size, colour, wider) {  // not by colour alone: a cross is false, a ring is missed
  ink.strokeStyle = ink.fillStyle = colour;
  ink.lineWidth = Math.max(Math.min(1.2, size), size / 2.2) + 2 * wider;
  ink.beginPath();
  if (role === "false") for (const side of [-1, 1]) { ink.moveTo(-size * .8, side * size * .8); ink.lineTo(size * .8, -side * size * .8); }
  else ink.arc(0, 0, role === "missed" ? size : size * .8 + wider, 0, 7);
  if (role === "false" || role === "missed") ink.stroke(); else ink.fill();
}

// ------------------------------------------------------------------------------------------------ drawing

let waiting = false;

function draw() {
  if (waiting || !open) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; if (dialog.open) paint(); });
}

function paint() {
  const {image: {size: [height, width]}, view: {k, x, y}, people} = open;
  const [wide, high] = [stage.clientWidth, stage.clientHeight], dense = devicePixelRatio;
  if (canvas.width !== Math.round(wide * dense) || canvas.height !== Math.round(high * dense)) Object.assign(canvas, {width: Math.round(wide * dense), height: Math.round(high * dense)});
  brush.setTransform(dense, 0, 0, dense, 0, 0);
  brush.clearRect(0, 0, wide, high);
  brush.imageSmoothingEnabled = true;
  brush.drawImage(open.thumbnail, x, y, width * k, height * k);
  paintTiles(wide, high);
  const over = made => brush.drawImage(made, x, y, width * k, height * k);
  if (get("density").checked) over(layer("density", densityLayer).made);
  if (people.labels) {
    brush.imageSmoothingEnabled = width * k < 2 * people.labels.width;
    if (get("masks").checked) over(layer("masks", masksLayer));
    if (picked >= 0 && people.runs[picked]) over(layer(`mask ${picked}`, () => maskOf(picked)));
  }
  if (get("points").checked) paintPoints(wide, high);
  if (picked >= 0) paintPicked();
}

function paintTiles(wide, high) {
  const {picture: [rows, columns], image: {size: [height, width]}, view: {k, x, y}} = open;
  if (width * k * devicePixelRatio <= open.thumbnail.naturalWidth * 1.2) return;  // the thumbnail shows as much
  const sharp = k * height / rows > 2;  // pixels of the picture are squares that can be told apart
  brush.imageSmoothingEnabled = !sharp;
  for (const tile of open.tiles) {
    const left = Math.round(x + tile.left * k * width / columns), top = Math.round(y + tile.top * k * height / rows);
    const right = Math.round(x + Math.min(columns, tile.left + DATA.tile) * k * width / columns);
    const bottom = Math.round(y + Math.min(rows, tile.top + DATA.tile) * k * height / rows);
    if (right < 0 || bottom < 0 || left > wide || top > high) continue;
    if (tile.picture) brush.drawImage(tile.picture, left, top, right - left, bottom - top);
    else tile.coming ??= decoded(tile.jpeg).then(made => { tile.picture = made; draw(); });
  }
  brush.imageSmoothingEnabled = true;
}

function paintPoints(wide, high) {
  const {people, view: {k, x, y}} = open;
  const rooms = layer("rooms", roomsOf);
  for (let i = 0; i < people.n; i++) {
    const right = x + (people.x[i] + .5) * k, down = y + (people.y[i] + .5) * k;
    if (right < -9 || down < -9 || right > wide + 9 || down > high + 9) continue;
    const room = rooms[i] * k, size = Math.round(4 * Math.max(1, Math.min(7, room / 7))) / 4;
    const made = sprite(DATA.roles[people.role[i]], size), side = made.width / devicePixelRatio;
    brush.globalAlpha = Math.min(1, .4 + room / 14);  // the photograph shows through a dense crowd
    brush.drawImage(made, right - side / 2, down - side / 2, side, side);
  }
  brush.globalAlpha = 1;
}

function roomsOf() {  // px of the image between each person and the next, by how many stand in the cells around
  const {people, image: {size: [height, width]}} = open, cell = Math.sqrt(height * width / people.n);
  const columns = Math.ceil(width / cell) + 2, cells = new Uint32Array(columns * (Math.ceil(height / cell) + 2));
  const cellOf = i => (Math.floor(people.y[i] / cell) + 1) * columns + Math.floor(people.x[i] / cell) + 1;
  for (let i = 0; i < people.n; i++) cells[cellOf(i)]++;
  return Float32Array.from(people.x, (_, i) => {
    let around = 0;
    for (const row of [-columns, 0, columns]) for (const column of [-1, 0, 1]) around += cells[cellOf(i) + row + column];
    return 3 * cell / Math.sqrt(around);
  });
}

function paintPicked() {
  const [x, y] = placeOf(picked);
  for (const [colour, line] of [["#000", 5], ["#fff", 2.5]]) {
    brush.strokeStyle = colour;
    brush.lineWidth = line;
    brush.beginPath();
    brush.arc(x, y, 12, 0, 7);
    brush.stroke();
  }
}

// ------------------------------------------------------------------------------------------------ moving about

const fitting = () => Math.min(stage.clientWidth / open.image.size[1], stage.clientHeight / open.image.size[0]);

function fit() {
  const k = fitting(), [height, width] = open.image.size;
  open.fitted = true;
  open.view = {k, x: (stage.clientWidth - width * k) / 2, y: (stage.clientHeight - height * k) / 2};
  tell();
  draw();
}

function middle() {  // of what is looked at
  const place = picked < 0 ? [] : placeOf(picked);
  return place.length && inSight(...place) ? place : [stage.clientWidth / 2, stage.clientHeight / 2];
}

function zoom(by, [x, y] = middle()) {  // what is at (x, y) stays there
  const {view} = open, fitted = fitting(), k = Math.max(fitted / 2, Math.min(Math.max(40, fitted), view.k * by));
  open.view = {k, x: x - (x - view.x) * k / view.k, y: y - (y - view.y) * k / view.k};
  bound();
}

function move(right, down) {
  open.view.x += right;
  open.view.y += down;
  bound();
}

function bound() {  // some of the picture stays in sight
  const {view, image: {size: [height, width]}} = open, rim = 60;
  open.fitted = false;
  view.x = Math.max(rim - width * view.k, Math.min(stage.clientWidth - rim, view.x));
  view.y = Math.max(rim - height * view.k, Math.min(stage.clientHeight - rim, view.y));
  tell();
  draw();
}

function at(x, y) {  // the person whose mask or point is there
  const {people, view, image: {size: [height, width]}} = open;
  const column = (x - view.x) / view.k, row = (y - view.y) / view.k;
  let nearest = -1, least = 14 / view.k;
  for (let i = 0; i < people.n; i++) {
    const distance = Math.hypot(people.x[i] + .5 - column, people.y[i] + .5 - row);
    if (distance < least) { least = distance; nearest = i; }
  }
  const {labels: masks} = people;
  if (masks && get("masks").checked && column >= 0 && row >= 0 && column < width && row < height) {
    const label = masks.map[Math.floor(row / height * masks.height) * masks.width + Math.floor(column / width * masks.width)];
    if (label && (nearest < 0 || least > 5 / view.k)) return label - 1;
  }
  return nearest;
}

function pick(person) {
  if (person === picked) return;
  delete open.layers[`mask ${picked}`];
  picked = person;
  tell();
  draw();
}

function tell() {
  const {people, view} = open;
  tip.hidden = picked < 0;
  get("person").textContent = picked < 0 ? (people.n ? "Point at a person, or tap one." : "") : about(picked);
  if (picked < 0) return;
  tip.textContent = about(picked);
  const [x, y] = placeOf(picked);
  tip.hidden = !inSight(x, y);
  tip.style.left = `${Math.max(4, Math.min(x + 16, stage.clientWidth - tip.offsetWidth - 4))}px`;
  tip.style.top = `${Math.max(4, Math.min(y + 16, stage.clientHeight - tip.offsetHeight - 4))}px`;
}

const placeOf = person => {
  const {people, view: {k, x, y}} = open;
  return [x + (people.x[person] + .5) * k, y + (people.y[person] + .5) * k];
};
const inSight = (x, y) => x >= 0 && y >= 0 && x <= stage.clientWidth && y <= stage.clientHeight;

function about(person) {
  const {people} = open, role = DATA.roles[people.role[person]], place = `at (${people.x[person]}, ${people.y[person]})`;
  if (role === "missed") return `missed person ${place}`;
  const kind = role === "found" ? "" : `${role} · `, area = people.area[person];
  return `person ${person + 1} · ${kind}score ${(people.score[person] / DATA.scoreSteps).toFixed(2)} · ${area ? `area ${area.toLocaleString("en")} px` : "no mask"} · ${place}`;
}

function stepPerson(by) {
  const {people} = open;
  if (!people.n) return;
  const all = [...people.x.keys()], seen = person => inSight(...placeOf(person));
  if (picked >= 0 && seen(picked)) pick((picked + by + people.n) % people.n);
  else pick(by > 0 ? Math.max(0, all.findIndex(seen)) : all.findLast(seen) ?? people.n - 1);  // one that is looked at
  const [x, y] = placeOf(picked);
  if (!inSight(x, y)) move(stage.clientWidth / 2 - x, stage.clientHeight / 2 - y);
}

// ------------------------------------------------------------------------------------------------ mouse, fingers, keys

const fingers = new Map();
let travelled = 0;

const local = event => { const box = stage.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };

stage.addEventListener("pointerdown", event => {
  stage.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, local(event));
  travelled = 0;
  stage.classList.add("drag");
});
stage.addEventListener("pointermove", event => {
  const [x, y] = local(event), before = fingers.get(event.pointerId);
  if (!before) { if (event.pointerType === "mouse" && open) pick(at(x, y)); return; }
  const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
  travelled += Math.hypot(x - before[0], y - before[1]);
  move((x - before[0]) / fingers.size, (y - before[1]) / fingers.size);
  if (other) zoom(Math.hypot(x - other[0], y - other[1]) / Math.max(1, Math.hypot(before[0] - other[0], before[1] - other[1])), [(x + other[0]) / 2, (y + other[1]) / 2]);
  fingers.set(event.pointerId, [x, y]);
});
const lift = event => { fingers.delete(event.pointerId); stage.classList.toggle("drag", fingers.size > 0); };
stage.addEventListener("pointerup", event => { if (fingers.has(event.pointerId) && travelled < 6) pick(at(...local(event))); lift(event); });
for (const end of ["pointercancel", "lostpointercapture"]) stage.addEventListener(end, lift);
stage.addEventListener("pointerleave", event => { if (event.pointerType === "mouse" && open && !fingers.size) pick(-1); });
stage.addEventListener("wheel", event => { event.preventDefault(); zoom(Math.exp(-event.deltaY / (event.deltaMode ? 10 : 400)), local(event)); }, {passive: false});
stage.addEventListener("dblclick", event => zoom(2, local(event)));

let room = [0, 0];  // of the stage

new ResizeObserver(() => {  // what is in its middle stays there
  const [wide, high] = room;
  room = [stage.clientWidth, stage.clientHeight];
  if (!dialog.open || !open) return;
  if (open.fitted) fit(); else move((room[0] - wide) / 2, (room[1] - high) / 2);
}).observe(stage);

for (const name of ["points", "masks", "density"]) get(name).addEventListener("change", () => { key(); draw(); });
get("in").addEventListener("click", () => zoom(1.5));
get("out").addEventListener("click", () => zoom(1 / 1.5));
get("fit").addEventListener("click", fit);
get("previous").addEventListener("click", () => turn(-1));
get("next").addEventListener("click", () => turn(1));
get("close").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => {
  if (dialog.open) return;  // again, before it was told
  const {image} = open;
  open = null;
  fingers.clear();
  stage.classList.remove("drag");
  reach(image);
  leave();
});

const FAR = 80;  // px that an arrow key moves the picture
const keys = {
  ArrowLeft: () => move(FAR, 0), ArrowRight: () => move(-FAR, 0), ArrowUp: () => move(0, FAR), ArrowDown: () => move(0, -FAR),
  "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), "0": fit,
  ".": () => stepPerson(1), ",": () => stepPerson(-1), PageDown: () => turn(1), PageUp: () => turn(-1),
  "?": () => get("help").querySelector("summary").click(),
  p: () => get("points").click(), m: () => get("masks").click(), d: () => get("density").click(),
};
addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input[type=search], select, svg")) return;
  document.body.classList.add("keyboard");
  if (dialog.open && keys[event.key]) { event.preventDefault(); keys[event.key](); }
  else if (!dialog.open && event.key === "/") { event.preventDefault(); get("search").focus(); }
  else if (!dialog.open && event.key.startsWith("Arrow") && step(event.key)) event.preventDefault();
});
choose();  // a reloaded page keeps its controls
if (DATA.compared) plots();
