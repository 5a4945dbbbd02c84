"""Step 2: our own byte-level BPE vocabulary and chat template. Knows text; knows nothing of the model.

    python -m training.nano.tokenizer training/nano/configs/nano.yaml

Every single character of the option codes is a token of its own, and a code at the start of a line (where a prompt ends)
can merge with nothing before it: line breaks are always split off. German, French and Spanish words get pieces from the
house-written tickets and from the words below.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from orchestrator.triage import prompts
from training.nano.corpus import read_jsonl

SPECIAL = ("<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>")
PIECES = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\n|[ \t]+(?!\S)|\s+"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] if message['role'] in ('system', 'user', 'assistant') else 'user' }}|>"
    "{{ message['content'] | trim }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
HOUSE_WEIGHT = 12  # our own tickets are few, and the only German, French and Spanish there is
WORDS = Path(__file__).with_name("words.txt")


def texts(work: Path) -> Iterator[str]:
    """What the vocabulary is made from; tickets weigh more than articles."""
    for row in read_jsonl(work / "documents.jsonl"):
        yield row["text"][:4_000]
    for row in read_jsonl(work / "utterances.jsonl"):
        yield from (row["text"], row["label"].replace("_", " "))
    for row in read_jsonl(work / "chats.jsonl"):
        yield row["response"]
    for row in read_jsonl(work / "house_texts.jsonl"):
        yield from [f"{row['subject']} {row['description']}"] * HOUSE_WEIGHT
    yield from [WORDS.read_text(encoding="utf-8")] * 60
    taxonomy = yaml.safe_load(Path("orchestrator/company/taxonomy.yaml").read_text(encoding="utf-8"))
    options = [f"{row['name']}: {row['means']}" for row in [*taxonomy["categories"], taxonomy["others"]]]
    yield from ["\n".join([prompts.TRIAGE_INSTRUCTION, *options, "Ticket:", "Type:"])] * 60


def train(work: Path, *, vocab_size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=4,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(work), trainer)
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path, *, max_length: int) -> None:
    """`tokenizer.json` and `tokenizer_config.json`, as transformers and vLLM read them."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "pad_token": "<|pad|>",
        "eos_token": "<|end|>",
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def main(config_path: str) -> None:
    config = yaml.safe_load(Path(config_path).read_text(encoding="utf-8"))
    work = Path(config["work"])
    tokenizer = train(work, vocab_size=config["tokenizer"]["vocab_size"])
    save(tokenizer, work / "tokenizer", max_length=config["model"]["max_position_embeddings"])
    for code in prompts.CODES:
        if len(tokenizer.encode(f"Type:\n{code}").ids) != len(tokenizer.encode("Type:\n").ids) + 1:
            raise SystemExit(f"code {code!r} is not one token after a line break")
    print(f"{tokenizer.get_vocab_size()} tokens in {work / 'tokenizer'}")


if __name__ == "__main__":
    main(sys.argv[1])
