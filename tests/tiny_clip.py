"""A tiny image-text model, trained in seconds: it knows a bright disc and stripes by their words."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import torch
from torch import Tensor
from torch.nn import functional as F

from runners.beyond.sentences import CONTROLS

SIDE = 32
WORDS = ("disc", "stripes", "nothing")
PROMPTS = ("bright disc", "stripes", "nothing")


def scene(count: int, seed: int, disc: bool | None = None, stripes: bool | None = None):
    """Noise with a disc or without, stripes or without, never overlapping: images and the masks of both."""
    g = torch.Generator().manual_seed(seed)
    x = 0.25 * torch.randn(count, 1, SIDE, SIDE, generator=g)
    draw = torch.rand(count, 2, generator=g) < 0.5
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    masks = torch.zeros(2, count, SIDE, SIDE, dtype=torch.bool)
    for i in range(count):
        top, left, low, right = torch.randint(0, SIDE // 2 - 9, (4,), generator=g).tolist()
        flip = bool(torch.rand((), generator=g) < 0.5)
        at, other = (left, SIDE // 2 + right) if flip else (SIDE // 2 + right, left)
        if draw[i, 0] if disc is None else disc:
            masks[0, i] = (rows - (2 * top + 6)).square() + (columns - (at + 5)).square() <= 20
            x[i, 0][masks[0, i]] += 2
        if draw[i, 1] if stripes is None else stripes:
            masks[1, i, 2 * low : 2 * low + 10, other : other + 10] = True
            x[i, 0] += torch.where(masks[1, i] & (columns % 2 == 0), 1.5, 0.0) - torch.where(
                masks[1, i] & (columns % 2 == 1), 1.5, 0.0
            )
    return x.expand(-1, 3, -1, -1).contiguous(), masks


def _tokenizer():
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    known = [*"<pad> <start> <unk> a bright there are is no indicating ill".split(), *CONTROLS, *WORDS, "<end>"]
    vocabulary = {word: number for number, word in enumerate(known)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("<start>", vocabulary["<start>"]), ("<end>", vocabulary["<end>"])]
    inner.post_processor = processors.TemplateProcessing(single="<start> $A <end>", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        bos_token="<start>",
        eos_token="<end>",
        unk_token="<unk>",
        model_max_length=12,
    )


def folder(trained: bool = True) -> Path:
    """Return a folder as Hugging Face writes it: weights, configuration, tokenizer, preparation of images."""
    return _folder(trained)


@cache
def _folder(trained: bool) -> Path:
    from transformers import CLIPConfig, CLIPModel

    tokens = _tokenizer()
    end = tokens.eos_token_id
    shared = {"num_attention_heads": 2, "hidden_size": 32, "intermediate_size": 64}
    config = CLIPConfig(
        text_config={
            **shared, "num_hidden_layers": 1, "vocab_size": len(tokens), "max_position_embeddings": 12,
            "eos_token_id": end, "bos_token_id": 1, "pad_token_id": 0,
        },
        vision_config={**shared, "num_hidden_layers": 2, "image_size": SIDE, "patch_size": 4},
        projection_dim=16,
    )  # fmt: skip
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(0)
        network = CLIPModel(config)
        if trained:
            _train(network, tokens)
    place = Path(mkdtemp(prefix="tiny_clip_"))
    network.eval().save_pretrained(place)
    tokens.save_pretrained(place)
    (place / "preprocessor_config.json").write_text('{"image_mean": [0.0, 0.0, 0.0], "image_std": [1.0, 1.0, 1.0]}')
    return place


def _train(network, tokens, steps: int = 200) -> None:
    """Three captions compete for an image; and of each thing, that it is there with that it is not."""
    adam = torch.optim.AdamW(network.parameters(), 4e-3, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, 4e-3, total_steps=steps)
    forms = [
        ("bright disc", "a bright disc", "there is a bright disc", "disc"),
        ("stripes", "a stripes", "there is stripes", "stripes"),
        ("nothing", "a nothing", "there is nothing", "nothing"),
    ]
    pairs = ["There are bright disc", "There are stripes", "There are no bright disc", "There are no stripes"]
    pairs += [f"{one} indicating ill" for one in pairs]
    network.train()
    for step in range(steps):
        x, masks = scene(32, step)
        has = masks.flatten(2).any(2)  # disc, stripes
        other = [CONTROLS[(5 * step + i) % len(CONTROLS)] for i in range(5)]  # captions of none of the images
        said = tokens([one[step % 4] for one in forms] + other + pairs, padding=True, return_tensors="pt")
        text = F.normalize(network.text_projection(network.text_model(**said).pooler_output), dim=-1)
        image = F.normalize(network.visual_projection(network.vision_model(pixel_values=x).pooler_output), dim=-1)
        logits = network.logit_scale.exp() * image @ text.T
        truth = torch.stack([has[0], has[1], ~has.any(0)], 1).float()
        single = truth.sum(1) == 1  # what shows both fits two captions
        loss = -(truth * logits[:, :8].log_softmax(1)[:, :3]).sum(1)[single].mean()
        both = logits[:, 8:].view(-1, 2, 2, 2)  # wording, present or absent, thing
        loss = loss + F.binary_cross_entropy_with_logits(
            both[:, :, 0] - both[:, :, 1], has.T[:, None].expand(-1, 2, -1).float()
        )
        adam.zero_grad()
        loss.backward()
        adam.step()
        rate.step()


def towers(trained: bool = True):
    """Return the two towers."""
    from runners.load import load_towers

    return load_towers(folder(trained))


def classifier(prompts=PROMPTS, trained: bool = True):
    """Return the classifier that prompts make of it."""
    from runners.load import load_model

    return load_model(towers(trained), prompts=prompts)


def picture(seed: int = 0, **which) -> tuple[Tensor, Tensor]:
    """Return one image ``(1, 3, H, W)`` and the masks of disc and stripes ``(2, H, W)``."""
    x, masks = scene(1, seed, **which)
    return x, masks[:, 0]
