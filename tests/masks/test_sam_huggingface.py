"""The adapter for transformers, with tiny random models from a local folder."""

import numpy as np
import pytest
import torch

from crowdseg.errors import SetupError, UsageError
from crowdseg.masks import MaskStore, prep_masks
from crowdseg.masks.crowd import Crowd
from crowdseg.masks.prompts import make_prompts
from crowdseg.masks.segmenters.huggingface import load_huggingface
from crowdseg.masks.superpixels import patches

transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install 'crowdseg[hf]'")


def lively(model):
    """Weights that let prompts through: transformers starts from so small ones that all logits are about 0."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=weight[0].numel() ** -0.5)
    return model


def save_sam(folder, side=128):
    """SAM: keeps proportions, pads."""
    torch.manual_seed(0)
    vision = {
        "hidden_size": 32, "output_channels": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_dim": 64,
        "image_size": side, "patch_size": 16, "window_size": 4, "global_attn_indexes": [1],
        "num_pos_feats": 16,
    }  # fmt: skip
    prompts = {
        "hidden_size": 32, "image_size": side, "patch_size": 16, "mask_input_channels": 4,
    }  # fmt: skip
    decoder = {
        "hidden_size": 32, "mlp_dim": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "iou_head_hidden_dim": 32,
    }  # fmt: skip
    config = transformers.SamConfig(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder)
    lively(transformers.SamModel(config)).save_pretrained(folder)
    transformers.SamImageProcessor(
        size={"longest_edge": side}, pad_size={"height": side, "width": side}
    ).save_pretrained(folder)


def save_sam2(folder, side=128):
    """SAM 2: a hierarchical encoder, the image stretched over the whole input."""
    torch.manual_seed(0)
    backbone = {
        "hidden_size": 16, "num_attention_heads": 1, "image_size": [side, side], "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [16, 32, 64, 128], "num_attention_heads_per_stage": [1, 1, 2, 2],
        "window_size_per_stage": [4, 4, 4, 4], "global_attention_blocks": [3],
        "window_positional_embedding_background_size": [4, 4],
    }  # fmt: skip
    vision = {
        "backbone_config": {"model_type": "sam2_hiera_det_model", **backbone},
        "backbone_channel_list": [128, 64, 32, 16], "fpn_hidden_size": 32,
        "backbone_feature_sizes": [[side // 4] * 2, [side // 8] * 2, [side // 16] * 2],
    }  # fmt: skip
    prompts = {"hidden_size": 32, "image_size": side, "patch_size": 16, "mask_input_channels": 4}
    decoder = {
        "hidden_size": 32, "mlp_dim": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "iou_head_hidden_dim": 32,
    }  # fmt: skip
    config = transformers.Sam2Config(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder)
    lively(transformers.Sam2Model(config)).save_pretrained(folder)
    processor = getattr(transformers, "Sam2ImageProcessor", None) or transformers.Sam2ImageProcessorFast  # before 5
    processor(size={"height": side, "width": side}).save_pretrained(folder)


SAVE = {"sam": save_sam, "sam2": save_sam2}


@pytest.fixture(scope="module", params=SAVE)
def kind_and_folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    SAVE[request.param](folder)
    return request.param, folder


def test_candidates_are_those_of_the_processor(kind_and_folder, blobs):
    """The same masks as transformers' own processor and post-processing give."""
    kind, folder = kind_and_folder
    model, scene = load_huggingface(folder), blobs(0)
    crowd = Crowd.of(scene.points, scene.labels.shape)
    prompts = make_prompts(crowd, list(patches(scene.image, crowd)))
    encoded = model.encode(scene.image)
    processor = getattr(transformers, {"sam": "SamProcessor", "sam2": "Sam2Processor"}[kind])(model.processor)
    inputs = processor(
        images=scene.image,
        input_points=[prompts.points.tolist()],
        input_labels=[prompts.labels.tolist()],
        input_boxes=[prompts.boxes.tolist()],
        return_tensors="pt",
    )
    inputs = {name: value.float() if value.dtype == torch.float64 else value for name, value in inputs.items()}
    for boxes in (False, True):
        chosen = {
            name: inputs[name]
            for name in ("pixel_values", "input_points", "input_labels", *(("input_boxes",) if boxes else ()))
        }
        with torch.no_grad():
            expected = model.model(**chosen, multimask_output=True)
        logits, scores = model.candidates(encoded, prompts, boxes=boxes)
        assert logits.shape == (12, 3, 32, 32)
        assert (logits[1:] - logits[0]).abs().amax(dim=(1, 2, 3)).min() > 0.05  # the prompts matter
        torch.testing.assert_close(logits, expected.pred_masks[0], atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(scores, expected.iou_scores[0], atol=1e-4, rtol=1e-3)
    # 160 x 120 pixels: SAM shows them as 128 x 96, SAM 2 as 128 x 128
    assert encoded.shape == {"sam": (24, 32), "sam2": (32, 32)}[kind]
    assert encoded.cell == pytest.approx({"sam": (5, 5), "sam2": (3.75, 5)}[kind])


def test_a_folder_is_a_checkpoint(kind_and_folder, blob_set, tmp_path, monkeypatch):
    _, folder = kind_and_folder
    monkeypatch.chdir(tmp_path)
    result = prep_masks(blob_set, sam_checkpoint=folder)
    assert (result.segmenter, result.done, result.people) == ("sam", 4, 16)
    store = MaskStore.open(result.folder)
    for sample in result.dataset.samples:
        assert set(np.unique(store.labels(sample))) >= {1, 2, 3, 4}
    assert folder.name in store.manifest["settings"]["sam_checkpoint"]
    assert prep_masks(blob_set, sam_checkpoint=folder).kept == 4
    with pytest.raises(UsageError, match="leave out --sam-model vit_b"):
        prep_masks(blob_set, sam_checkpoint=folder, sam_model="vit_b")


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(SetupError, match=r"holds no SAM of transformers .*preprocessor_config\.json"):
        load_huggingface(tmp_path)


def test_a_model_that_answers_otherwise_is_refused(tmp_path):
    save_sam(tmp_path)
    vision = {
        "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "output_channels": 32, "mlp_dim": 64,
        "global_attn_indexes": [0], "num_pos_feats": 16,
    }  # fmt: skip
    config = transformers.SamHQConfig(vision_config=vision, prompt_encoder_config={"hidden_size": 32})
    transformers.SamHQModel(config).save_pretrained(tmp_path)
    with pytest.raises(SetupError, match="holds a SamHQModel, but masks come from SamModel, Sam2Model"):
        load_huggingface(tmp_path)
