"""Small random encoders of the real architectures, saved as the hub keeps them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

ENGLISH = [
    "a dog",
    "Two people ride their bicycles along a beach in the evening, while a third one watches them from a boat",
    "it's 3 o'clock; 42 geese!",
    "a café   with\ttabs and a very_odd-word antidisestablishmentarianism",
    "cat " * 100,
]
CHINESE = ["一只猫", "夜晚的城市里有很多人在路上走,天上有月亮", "沙滩上的 dog", "一只狗和一只猫" * 12]
SIDE = 32


def clip(folder: Path, *, side: int = SIDE, width: int = 32) -> Any:
    """Save a CLIP with CLIP's own vocabulary."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    config = CLIPConfig(
        text_config=_text(vocab_size=49408, eos_token_id=49407, bos_token_id=49406, max_position_embeddings=77),
        vision_config={**_vision(side), "hidden_size": width, "intermediate_size": 2 * width},
        projection_dim=24,
    )
    model = _lively(CLIPModel(config))
    model.save_pretrained(folder)
    clip_processor(side).save_pretrained(folder)
    return model


def clip_processor(side: int = SIDE) -> Any:
    from open_clip.tokenizer import SimpleTokenizer
    from transformers import CLIPProcessor, CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    own = SimpleTokenizer()
    vocabulary = {**own.encoder, "<|startoftext|>": own.sot_token_id, "<|endoftext|>": own.eot_token_id}
    del vocabulary["<start_of_text>"], vocabulary["<end_of_text>"]
    merges = sorted(own.bpe_ranks, key=own.bpe_ranks.get)
    pictures = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    return CLIPProcessor(pictures, CLIPTokenizer(vocab=vocabulary, merges=merges))


def siglip(folder: Path, *, side: int = SIDE) -> Any:
    """Save a SigLIP with a vocabulary of letters."""
    from transformers import SiglipConfig, SiglipModel

    torch.manual_seed(0)
    config = SiglipConfig(
        text_config=_text(vocab_size=400, max_position_embeddings=64, projection_size=32), vision_config=_vision(side)
    )
    model = _lively(SiglipModel(config))
    with torch.no_grad():
        model.logit_scale.fill_(2.0)
        model.logit_bias.fill_(-3.0)
    model.save_pretrained(folder)
    siglip_processor(side).save_pretrained(folder)
    return model


def siglip_processor(side: int = SIDE) -> Any:
    from transformers import Siglip2Tokenizer, SiglipProcessor
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    pieces += [*"abcdefghijklmnopqrstuvwxyz0123456789.,;!'-_", "th", "the", "do", "dog"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    merges = [("t", "h"), ("th", "e"), ("d", "o"), ("do", "g")]
    words = Siglip2Tokenizer(vocab=vocabulary, merges=merges, padding_side="right")
    pictures = SiglipImageProcessorPil(size={"height": side, "width": side}, resample=2)
    return SiglipProcessor(pictures, words)


def chinese_clip(folder: Path, *, side: int = SIDE) -> Any:
    """Save a Chinese-CLIP with a BERT vocabulary of a few characters."""
    from transformers import ChineseCLIPConfig, ChineseCLIPModel

    torch.manual_seed(0)
    config = ChineseCLIPConfig(
        text_config=_text(vocab_size=200, max_position_embeddings=64, pad_token_id=0),
        vision_config=_vision(side),
        projection_dim=24,
    )
    model = _lively(ChineseCLIPModel(config))
    model.save_pretrained(folder)
    chinese_clip_processor(side).save_pretrained(folder)
    return model


def chinese_clip_processor(side: int = SIDE) -> Any:
    from transformers import BertTokenizer, ChineseCLIPProcessor
    from transformers.models.chinese_clip.image_processing_pil_chinese_clip import ChineseCLIPImageProcessorPil

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys("".join(CHINESE).replace(" ", ""))]
    pieces = list(dict.fromkeys([*pieces, "dog", "do", "##g", *"abcdefghijklmnopqrstuvwxyz"]))
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    pictures = ChineseCLIPImageProcessorPil(size={"height": side, "width": side}, do_center_crop=False)
    return ChineseCLIPProcessor(pictures, BertTokenizer(vocab=vocabulary))


def open_clip_folder(folder: Path, name: str, *, preprocess: dict[str, Any] | None = None) -> Any:
    """Save an open_clip model of this architecture, full size, random but able to tell pictures apart; give the model."""
    import open_clip
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = open_clip.create_model(name)
    _settled(model.visual)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
    save_file(tensors, folder / "open_clip_model.safetensors")
    page = {"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": preprocess or {}}
    (folder / "open_clip_config.json").write_text(json.dumps(page))
    return model.eval()


def _settled(tower: Any) -> None:
    """Give batch norms the statistics of real photographs, and branches a say.

    Otherwise a random tower of convolutions gives one vector for all pictures, and proves nothing.
    """
    norms = [part for part in tower.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    if not norms:
        return
    size = tower.image_size
    side = size if isinstance(size, int) else size[0]
    photos = sorted((Path(__file__).parent.parent / "photos").glob("*.jpg"))
    shown = np.stack([np.asarray(Image.open(path).convert("RGB").resize((side, side))) for path in photos])
    with torch.no_grad():
        for key, weight in tower.named_parameters():
            if "gamma" in key:
                weight.fill_(0.5)
        for norm in norms:
            norm.momentum = None  # the mean of what was seen
        tower.train()
        tower(torch.tensor(shown).permute(0, 3, 1, 2).float() / 255)
        tower.eval()


def _text(**more: Any) -> dict[str, Any]:
    return {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, **more}


def _vision(side: int) -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": side,
        "patch_size": 8,
    }


def _lively(model: Any) -> Any:
    """Make weights large enough that different inputs give clearly different vectors."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                weight.normal_(0, 0.2)
            elif name.endswith("bias"):
                weight.normal_(0, 0.05)
    return model.eval()
