"""Step 3: vectors of the sentence encoder for short texts and for its own words, which the small model learns from.

    python -m training.nano.teacher training/nano/configs/nano.yaml

Writes `sentences.jsonl` ({text}) with `sentences.npy` [n, 384] (unit length) for the distillation term of pre-training, and
`words.npy` [vocabulary, 384]: for each of our tokens the mean of the encoder's word-piece vectors of the same letters.
"""

import random
import re
import sys
from pathlib import Path

import numpy as np
import torch
import yaml
from tokenizers import Tokenizer

from training.head.encoder import Encoder
from training.nano.corpus import read_jsonl, write_jsonl

SENTENCES_PER_ARTICLE = 10
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n")


def sentences(work: Path, *, seed: int) -> list[str]:
    """Requests, and some sentences of every article (its title among them)."""
    choose = random.Random(seed)
    found = [row["text"] for row in read_jsonl(work / "utterances.jsonl")]
    for row in read_jsonl(work / "documents.jsonl"):
        lines = [line.strip("#-*• ") for line in _SENTENCE.split(row["text"])]
        lines = [line for line in lines if 20 <= len(line) <= 220 and "|" not in line and "```" not in line]
        found += lines[:1] + choose.sample(lines[1:], min(SENTENCES_PER_ARTICLE - 1, len(lines[1:])))
    unique = list(dict.fromkeys(found))
    choose.shuffle(unique)
    return unique


def words(encoder: Encoder, tokenizer: Tokenizer) -> np.ndarray:
    """[vocabulary, 384]: the encoder's word vectors seen through our vocabulary; zero where it has nothing to say."""
    table = encoder.model.get_input_embeddings().weight.detach().numpy()
    table = table - table.mean(0)
    out = np.zeros((tokenizer.get_vocab_size(), table.shape[1]), np.float32)
    for index in range(len(out)):
        text = tokenizer.decode([index]).strip()
        if text and "\ufffd" not in text:
            pieces = [i for i in encoder.tokenizer.encode(text, add_special_tokens=False) if i != encoder.tokenizer.unk_token_id]
            if pieces:
                out[index] = table[pieces].mean(0)
    return out


def main(config_path: str) -> None:
    config = yaml.safe_load(Path(config_path).read_text(encoding="utf-8"))
    work = Path(config["work"])
    torch.set_num_threads(config["pretrain"]["threads"])
    encoder = Encoder()
    if "--words-only" not in sys.argv:
        chosen = sentences(work, seed=config["seed"])
        write_jsonl(work / "sentences.jsonl", [{"text": text} for text in chosen])
        np.save(work / "sentences.npy", encoder.encode(chosen, max_length=64, progress=True).astype(np.float16))
        print(f"{len(chosen)} sentences")
    if (work / "tokenizer/tokenizer.json").exists():
        np.save(work / "words.npy", words(encoder, Tokenizer.from_file(str(work / "tokenizer/tokenizer.json"))))


if __name__ == "__main__":
    main(sys.argv[1])
