"""Captioners of the real architectures, tiny and random, saved as the hub keeps them."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

if TYPE_CHECKING:
    from pathlib import Path

WORDS = ("a", "the", "cat", "dog", "man", "sits", "runs", "on", "beach", "red", "is", "how", "many", "people", "what")


def shaken(model: Any, seed: int, scale: float, skip: tuple[str, ...] = ()) -> Any:
    """Give every matrix new weights, large enough that answers differ from input to input and token to token."""
    drawn = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim >= 2 and not any(part in name for part in skip):
                fan = weight.shape[1] if weight.ndim == 2 else weight[0].numel()
                weight.copy_(torch.randn(weight.shape, generator=drawn) * scale / fan**0.5)
            elif weight.ndim == 1 and name.endswith("bias"):
                weight.copy_(torch.randn(weight.shape, generator=drawn) * 0.1)
    return model.eval()


def word_pieces() -> Any:
    """BERT's kind of tokenizer, as BLIP has it."""
    letters = [mark + letter for letter in string.ascii_lowercase for mark in ("", "##")]
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "?", ".", ",", "'"]
    vocabulary = {piece: number for number, piece in enumerate([*marks, *letters, *WORDS])}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece(prefix="##")
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    )
    made.add_special_tokens([AddedToken("[DEC]", special=True)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


def byte_pieces(marks: list[str], *, special: bool = True) -> Tokenizer:
    """A byte-level tokenizer without merges: every text has ids, and so has half a Chinese character."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: number for number, piece in enumerate(alphabet)}
    made = Tokenizer(models.BPE(vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(mark, special=special, normalized=False) for mark in marks])
    return made


def blip(folder: Path, kind: str, seed: int = 1, scale: float = 1.6) -> Path:
    """Save a BLIP of one of its two kinds, with its processor."""
    words = word_pieces()
    config = transformers.BlipConfig(
        text_config={
            "vocab_size": len(words),
            "hidden_size": 32,
            "encoder_hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": 64,
            "bos_token_id": words.convert_tokens_to_ids("[DEC]"),
            "sep_token_id": words.sep_token_id,
            "pad_token_id": words.pad_token_id,
            "eos_token_id": 2,
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 48,
            "patch_size": 16,
        },
    )
    torch.manual_seed(seed)
    model = shaken(getattr(transformers, kind)(config), seed, scale)
    with torch.no_grad():
        for name, weight in model.text_decoder.named_parameters():
            # What was said last has to outweigh what all steps share, or one token is said for ever.
            if "output.dense.weight" in name:
                weight.mul_(0.1)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    transformers.BlipImageProcessorPil(size={"height": 48, "width": 48}).save_pretrained(folder)
    return folder


def florence2(folder: Path, seed: int = 2, scale: float = 2.5) -> Path:
    """Save a Florence-2 with its processor; its pictures have 64 pixels a side."""
    marks = ["<s>", "<pad>", "</s>", "<unk>", "<image>", "<sep>", "<poly>", "</poly>"]
    made = byte_pieces([*marks, *(f"<loc_{place}>" for place in range(1000))])
    words = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    words.add_special_tokens({"additional_special_tokens": ["<image>"]})
    begin, pad, end, image = words.convert_tokens_to_ids(["<s>", "<pad>", "</s>", "<image>"])
    text = transformers.BartConfig(
        vocab_size=len(words),
        d_model=32,
        encoder_layers=2,
        decoder_layers=3,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_position_embeddings=128,
        bos_token_id=begin,
        pad_token_id=pad,
        eos_token_id=end,
        decoder_start_token_id=end,
        forced_bos_token_id=begin,
        forced_eos_token_id=None,
    )
    vision = transformers.models.florence2.Florence2VisionConfig(
        embed_dim=[8, 16, 24, 32],
        depths=[1, 1, 1, 1],
        num_heads=[2, 2, 4, 4],
        num_groups=[2, 2, 4, 4],
        window_size=4,
        projection_dim=32,
    )
    torch.manual_seed(seed)
    config = transformers.Florence2Config(
        text_config=text.to_dict(), vision_config=vision.to_dict(), image_token_id=image
    )
    model = shaken(transformers.Florence2ForConditionalGeneration(config), seed, scale)
    with torch.no_grad():
        model.model.language_model.shared.weight.mul_(2)
    model.generation_config = transformers.GenerationConfig(
        bos_token_id=begin,
        pad_token_id=pad,
        eos_token_id=end,
        decoder_start_token_id=end,
        forced_bos_token_id=begin,
        no_repeat_ngram_size=3,
        num_beams=3,
        early_stopping=True,
    )
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    transformers.CLIPImageProcessorPil(
        size={"height": 64, "width": 64},
        do_center_crop=False,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    ).save_pretrained(folder)
    return folder


def smolvlm(folder: Path, kind: str = "Idefics3", seed: int = 0, scale: float = 2.5) -> Path:
    """Save a SmolVLM; its tiles have 64 pixels a side, and the longer side of a picture is brought to 256."""
    rows = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    marks = ["<|im_start|>", "<end_of_utterance>", "<image>", "<fake_token_around_image>", "<global-img>", *rows]
    words = transformers.PreTrainedTokenizerFast(
        tokenizer_object=byte_pieces(marks), eos_token="<end_of_utterance>", pad_token="<|im_start|>"
    )
    end, pad, image = words.convert_tokens_to_ids(["<end_of_utterance>", "<|im_start|>", "<image>"])
    config = getattr(transformers, f"{kind}Config")(
        text_config={
            "model_type": "llama",
            "vocab_size": len(words),
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 2048,
            "bos_token_id": pad,
            "eos_token_id": end,
            "pad_token_id": pad,
        },
        vision_config={
            "hidden_size": 24,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 64,
            "patch_size": 8,
        },
        image_token_id=image,
        scale_factor=2,
        pad_token_id=pad,
        tie_word_embeddings=False,
    )
    torch.manual_seed(seed)
    model = shaken(getattr(transformers, f"{kind}ForConditionalGeneration")(config), seed, scale)
    model.generation_config = transformers.GenerationConfig(eos_token_id=end, pad_token_id=pad, bos_token_id=pad)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    pictures = getattr(transformers, f"{kind}ImageProcessorPil")(
        size={"longest_edge": 256}, max_image_size={"longest_edge": 64}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    pictures.save_pretrained(folder)
    return folder


def language(folder: Path, kind: str = "Qwen2", seed: int = 0, scale: float = 2.5) -> Path:
    """Save a Qwen2, Qwen3 or Llama."""
    llama = kind == "Llama"
    end, pad = ("</s>", "<s>") if llama else ("<|im_end|>", "<|endoftext|>")
    made = byte_pieces(["<s>", "</s>"] if llama else ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    if llama:
        begin = ("<s>", made.token_to_id("<s>"))
        made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[begin])
    words = transformers.PreTrainedTokenizerFast(tokenizer_object=made, eos_token=end, pad_token=pad)
    more = {"head_dim": 16} if kind == "Qwen3" else {}
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        tie_word_embeddings=kind == "Qwen3",
        **more,
    )
    torch.manual_seed(seed)
    model = shaken(getattr(transformers, f"{kind}ForCausalLM")(config), seed, scale)
    model.generation_config = transformers.GenerationConfig(
        eos_token_id=[words.eos_token_id, words.pad_token_id], pad_token_id=words.pad_token_id
    )
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
