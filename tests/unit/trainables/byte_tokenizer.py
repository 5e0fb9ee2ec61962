"""Real tokenizers, built on the spot: byte-level BPE and the two kinds of SentencePiece."""

from functools import cache

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CORPUS = ["Q: what is the total of 2019 and 2018?\nA: the total is 1,234.5 million\n\n", "Qb: b answer response prompt"]


def _wrapped(tokenizer, chat_template, add_bos=False):
    if add_bos:
        bos = ("<|begin|>", tokenizer.token_to_id("<|begin|>"))
        tokenizer.post_processor = processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[bos])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|begin|>",
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=chat_template,
        clean_up_tokenization_spaces=False,
    )


SPECIAL = ["<|pad|>", "<|begin|>", "<|im_start|>", "<|im_end|>"]


@cache
def byte_level(chat_template=CHATML, add_bos=False):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=SPECIAL, initial_alphabet=sorted(alphabet), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return _wrapped(tokenizer, chat_template, add_bos)


@cache
def sentencepiece(legacy):
    """Puts a space before every text: as Llama 2 does (`legacy`, behind special tokens too), or only at its start."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    if legacy:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        plain = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        tokenizer.decoder = decoders.Sequence(plain)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(
        vocab_size=120,
        special_tokens=["<unk>", "<0x0A>", *SPECIAL],
        initial_alphabet=["▁", *map(chr, range(33, 127)), *([] if legacy else ["\n"])],
        show_progress=False,
    )
    words = [word for text in CORPUS for word in text.split()]
    tokenizer.train_from_iterator(words, trainer)
    return _wrapped(tokenizer, CHATML, add_bos=True)
