"""A tiny report writer, trained in seconds: it tells of a bright square, of a stripe, and the same of every heart."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import torch
from torch import Tensor
from torch.nn import functional as F

SIDE = 32
WORDS = "<pad> <start> <end> <unk> . square left stripe below no heart normal".split()
SAID = (("no square.", "square left."), ("no stripe.", "stripe below."))
ALWAYS = "heart normal."


def scene(count: int, seed: int, square: bool | None = None, stripe: bool | None = None) -> tuple[Tensor, Tensor]:
    """Noise with a square on the left or without, a stripe at the bottom or without: images and masks ``(2, n, …)``.

    The noise has flat places, so that hiding some of an image shows nothing new.
    """
    g = torch.Generator().manual_seed(seed)
    flat = (torch.rand(count, 1, 4, 4, generator=g) < 0.3).repeat_interleave(8, 2).repeat_interleave(8, 3)
    x = 0.25 * torch.randn(count, 1, SIDE, SIDE, generator=g) * ~flat
    masks = torch.zeros(2, count, SIDE, SIDE, dtype=torch.bool)
    for i in range(count):
        draw = torch.rand(2, generator=g) < 0.5
        top, left, low = torch.randint(0, 9, (3,), generator=g).tolist()
        if draw[0] if square is None else square:
            masks[0, i, 2 + top : 8 + top, left : left + 6] = True
        if draw[1] if stripe is None else stripe:
            masks[1, i, 27:30, 4 + 2 * low : 10 + 2 * low] = True
    return (x + 2 * masks.any(0)[:, None]).expand(-1, 3, -1, -1).contiguous(), masks


def reports(masks: Tensor) -> list[str]:
    """Return what is to be written about each image."""
    has = masks.flatten(2).any(2).long().tolist()
    return [f"{SAID[0][a]} {SAID[1][b]} {ALWAYS}" for a, b in zip(*has, strict=True)]


def tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.decoder = decoders.WordPiece(cleanup=True)
    ends = {"pad_token": "<pad>", "bos_token": "<start>", "eos_token": "<end>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, **ends)


def _network(family: str):
    from transformers import (
        BertConfig,
        BlipConfig,
        BlipForConditionalGeneration,
        VisionEncoderDecoderConfig,
        VisionEncoderDecoderModel,
        ViTConfig,
    )

    shared = {"num_attention_heads": 2, "num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64}
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    vision = {**shared, "num_hidden_layers": 1, "image_size": SIDE, "patch_size": 4}
    text = {**shared, **ids, "vocab_size": len(WORDS), "max_position_embeddings": 24}
    if family == "blip":
        known = {**text, "sep_token_id": 2, "encoder_hidden_size": 32}
        return BlipForConditionalGeneration(BlipConfig(text_config=known, vision_config=vision))
    decoder = BertConfig(**text, is_decoder=True, add_cross_attention=True)
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(ViTConfig(**vision), decoder)
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 1, 0, 2
    return VisionEncoderDecoderModel(config)


def folder(family: str = "encoder_decoder", trained: bool = True) -> Path:
    """Return a folder as Hugging Face writes it: weights, configuration, tokenizer, preparation of images."""
    return _folder(family, trained)


@cache
def _folder(family: str, trained: bool) -> Path:
    tokens = tokenizer()
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(0)
        network = _network(family)
        if trained:
            _train(network, tokens, family)
    place = Path(mkdtemp(prefix="tiny_writer_"))
    if family != "blip":
        network.generation_config.decoder_start_token_id = 1
        network.generation_config.eos_token_id = 2
        network.generation_config.pad_token_id = 0
    network.eval().save_pretrained(place)
    tokens.save_pretrained(place)
    (place / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}')
    return place


def _train(network, tokens, family: str, steps: int = 200) -> None:
    adam = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, 3e-3, total_steps=steps)
    network.train()
    for step in range(steps):
        x, masks = scene(32, step)
        ids = tokens([f"<start> {one} <end>" for one in reports(masks)], return_tensors="pt").input_ids
        # half of the texts begin with a wrong sentence, which is not learned: the next ones rest on the image alone
        wrong = tokens([f"<start> {one}" for one in reports(~masks.flatten(2).any(2)[:, :, None])]).input_ids
        given, truth = ids[:, :-1].clone(), ids[:, 1:].clone()
        given[::2, 1:4], truth[::2, :3] = torch.tensor(wrong)[::2, 1:4], -100
        text = {"input_ids" if family == "blip" else "decoder_input_ids": given}
        logits = network(pixel_values=x, **text).logits
        loss = F.cross_entropy(logits.flatten(0, 1), truth.flatten(), label_smoothing=0.1)
        adam.zero_grad()
        loss.backward()
        adam.step()
        rate.step()


def writer(family: str = "encoder_decoder", trained: bool = True):
    """Return the model that has written nothing yet."""
    from runners.load import load_model

    return load_model(folder(family, trained))
