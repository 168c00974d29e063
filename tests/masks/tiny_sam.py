"""A Sam of segment-anything's own classes, small and with random weights."""

from __future__ import annotations

import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer


def tiny_sam(checkpoint: object = None, *, seed: int = 0, side: int = 128, width: int = 32) -> Sam:
    """0.08 M parameters; takes and ignores ``checkpoint`` as the registry's builders do."""
    torch.manual_seed(seed)
    grid = side // 16
    encoder = ImageEncoderViT(
        img_size=side,
        patch_size=16,
        embed_dim=width,
        depth=2,
        num_heads=2,
        mlp_ratio=2,
        out_chans=width,
        window_size=4,
        global_attn_indexes=(1,),
        use_rel_pos=True,
    )
    prompts = PromptEncoder(
        embed_dim=width, image_embedding_size=(grid, grid), input_image_size=(side, side), mask_in_chans=4
    )
    transformer = TwoWayTransformer(depth=1, embedding_dim=width, num_heads=2, mlp_dim=64)
    decoder = MaskDecoder(transformer_dim=width, transformer=transformer, iou_head_depth=2, iou_head_hidden_dim=width)
    return Sam(encoder, prompts, decoder).eval()
