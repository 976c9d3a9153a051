"""Small random detectors of the real architectures, saved as the hub keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from pathlib import Path

WORDS = ("cat", "dog", "red", "car", "traffic", "light", "person", "a", "photo", "of", "the", "on", "beach")
SIDE = 64
GAIN = 1.6  # of random weights: with less, deep layers say the same of every picture


def owlv2(folder: Path, *, side: int = SIDE) -> Any:
    """Save an OWLv2 with CLIP's own vocabulary."""
    from tiny_encoders import clip_processor
    from transformers import Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessor, Owlv2Processor

    torch.manual_seed(0)
    text = {
        "vocab_size": 49408,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 16,
    }
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": side,
        "patch_size": 8,
    }
    model = lively(Owlv2ForObjectDetection(Owlv2Config(text_config=text, vision_config=vision, projection_dim=32)))
    words = clip_processor().tokenizer
    words.pad_token, words.model_max_length = "!", 16
    model.save_pretrained(folder)
    Owlv2Processor(Owlv2ImageProcessor(size={"height": side, "width": side}), words).save_pretrained(folder)
    return model


def bert_words() -> Any:
    """A BERT tokenizer of a few words, with the ids that Grounding DINO looks for at their places."""
    from transformers import BertTokenizer

    pieces = [f"[unused{number}]" for number in range(1100)]
    pieces[0], pieces[100], pieces[101], pieces[102], pieces[103] = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
    pieces[1012], pieces[1029] = ".", "?"
    others = [*WORDS, "##s", "##b", *"abcdefghijklmnopqrstuvwxyz'-"]
    others = [word for word in dict.fromkeys(others) if word not in pieces]
    pieces[200 : 200 + len(others)] = others
    return BertTokenizer(vocab={piece: number for number, piece in enumerate(pieces)})


def grounding_dino(folder: Path, *, side: int = 128) -> Any:
    """Save a Grounding DINO over a Swin of two stages."""
    from transformers import (
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
        SwinConfig,
    )

    torch.manual_seed(0)
    backbone = SwinConfig(
        embed_dim=16,
        depths=[1, 1, 1, 1],
        num_heads=[2, 2, 4, 4],
        window_size=4,
        image_size=side,
        out_features=["stage2", "stage3", "stage4"],
    )
    text = {
        "model_type": "bert",
        "vocab_size": 1100,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    }
    config = GroundingDinoConfig(
        backbone_config=backbone,
        text_config=text,
        d_model=32,
        encoder_layers=2,
        encoder_ffn_dim=64,
        encoder_attention_heads=4,
        decoder_layers=2,
        decoder_ffn_dim=64,
        decoder_attention_heads=4,
        num_queries=30,
        num_feature_levels=4,
    )
    # Read back, since only a saved model has the weights that several of its heads share.
    model = lively(GroundingDinoForObjectDetection(config))
    with torch.no_grad():
        model.model.decoder.layer_norm.weight.mul_(0.3)  # or every score is next to 0 or 1, where errors hide
    model.save_pretrained(folder)
    model = GroundingDinoForObjectDetection.from_pretrained(folder).eval()
    pictures = GroundingDinoImageProcessor(size={"shortest_edge": side, "longest_edge": 2 * side})
    GroundingDinoProcessor(pictures, bert_words()).save_pretrained(folder)
    return model


def rt_detr(folder: Path, *, side: int = SIDE, second: bool = False, names: dict[int, str] | None = None) -> Any:
    """Save an RT-DETR over a ResNet of two layers a stage."""
    import transformers

    torch.manual_seed(0)
    version = "RTDetrV2" if second else "RTDetr"
    config = getattr(transformers, f"{version}Config")(
        backbone_config=transformers.RTDetrResNetConfig(
            embedding_size=8,
            hidden_sizes=[8, 16, 32, 32],
            depths=[1, 1, 1, 1],
            layer_type="basic",
            out_features=["stage2", "stage3", "stage4"],
        ),
        encoder_in_channels=[16, 32, 32],
        encoder_hidden_dim=32,
        encoder_ffn_dim=64,
        d_model=32,
        decoder_in_channels=[32, 32, 32],
        decoder_ffn_dim=64,
        decoder_layers=2,
        decoder_attention_heads=4,
        encoder_attention_heads=4,
        num_queries=20,
        num_denoising=0,
        anchor_image_size=None,
        id2label=names or {0: "person", 1: "motorbike", 2: "tvmonitor", 3: "traffic cone"},
    )
    model = lively(getattr(transformers, f"{version}ForObjectDetection")(config))
    model.save_pretrained(folder)
    transformers.RTDetrImageProcessor(size={"height": side, "width": side}).save_pretrained(folder)
    return model


def lively(model: Any) -> Any:
    """Make weights large enough that different inputs give clearly different answers, and norms as if learned."""
    drawn = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                weight.normal_(0, GAIN / weight[0].numel() ** 0.5, generator=drawn)
            elif name.endswith("bias"):
                weight.normal_(0, 0.05, generator=drawn)
            else:
                weight.uniform_(0.7, 1.4, generator=drawn)
        for part in model.modules():
            if hasattr(part, "running_var") and part.running_var is not None:
                part.running_mean.copy_(0.1 * torch.randn(part.running_mean.shape, generator=drawn))
                part.running_var.copy_(0.5 + torch.rand(part.running_var.shape, generator=drawn))
    return model.eval()
