"""Chat templates in a few words, each of a shape that real ones have, and a tokenizer of bytes for them."""

from trainables.data.samples import Sample
from trainables.data.tokenization import Renderer
from trainables.models.tiny_llama import byte_tokenizer

ASKS = "{% if add_generation_prompt %}<|go|>assistant:{% endif %}"


def turns(turn):
    return "{% for m in messages %}<|go|>{{ m.role }}:" + turn + "{% endfor %}"


PLAIN = turns("{{ m.content }}<|stop|>") + ASKS
THINK = "{% if loop.last and m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
EMPTY_THOUGHT = turns(THINK + "{{ m.content }}<|stop|>") + ASKS
HEADER = "{% for m in messages %}<|go|>{{ m.role }}\n{{ m.content }}<|stop|>\n{% endfor %}"
OPENED = PLAIN.replace("assistant:{%", "assistant:<think>\n{%")
OTHER_END = (
    turns("{{ m.content }}{% if loop.last and m.role != 'user' %}<|return|>{% else %}<|stop|>{% endif %}") + ASKS
)
NO_END = "{% for m in messages %}### {{ m.role }}:\n{{ m.content }}\n\n{% endfor %}"
NEXT_MARKER = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
OPENS_NEXT = turns("{{ m.content }}<|stop|>") + "<|go|>assistant:"
KNOWN_ROLES = (
    "{% for m in messages if m.role in ('system', 'user', 'assistant') %}<|go|>{{ m.content }}<|stop|>{% endfor %}"
)
ANSWER_ONLY = turns("{{ m.content.split('</think>')[-1] }}<|stop|>") + ASKS
CALL_OR_TEXT = "{% if m.tool_calls %}{{ m.tool_calls[0].function.name }}{% else %}{{ m.content }}{% endif %}"
DROPS_TEXT_BESIDE_CALL = turns(CALL_OR_TEXT + "<|stop|>") + ASKS
CALLS = "{% for c in m.tool_calls or [] %}<call>{{ c.function | tojson }}</call>{% endfor %}"
WITH_CALLS = "{% if tools %}{{ tools | tojson }}{% endif %}" + turns("{{ m.content }}" + CALLS + "<|stop|>") + ASKS
ASCII_CALLS = WITH_CALLS.replace("c.function | tojson", "c.function | tojson(ensure_ascii=true)")
REPR_CALLS = WITH_CALLS.replace("c.function | tojson", "c.function | string")
# As Qwen3: reasoning of the last turn alone.
REASONS = "{% if m.reasoning_content and loop.last %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"
REASONING = turns(REASONS + "{{ m.content }}<|stop|>") + ASKS
MARKED = turns(
    "{% if m.role == 'assistant' and not loop.first %}{% generation %}{{ m.content }}<|stop|>{% endgeneration %}"
    "{% else %}{{ m.content }}<|stop|>{% endif %}"
)
ONLY_PARTS = turns("{% for p in m.content %}{{ p['text'] }}{% endfor %}<|stop|>") + ASKS
SPECIAL = ["<|go|>", "<|stop|>", "<|return|>", "<|user|>", "<|assistant|>"]

HERON = {"role": "user", "content": "How many legs has a heron?"}
LYNX = {"role": "user", "content": "And a lynx?"}
TWO, FOUR = {"role": "assistant", "content": "two"}, {"role": "assistant", "content": "four"}
CALL = {"type": "function", "function": {"name": "tide", "arguments": {"port": "Hull"}}}
TIDE = {"role": "user", "content": "Tide at Hull?"}
RESULT = {"role": "tool", "content": "06:40"}


def tokenizer_with(template, eos="<|stop|>"):
    made = byte_tokenizer()
    made.add_tokens(["<think>", "</think>"])
    made.add_special_tokens({"additional_special_tokens": SPECIAL, "eos_token": eos})
    made.chat_template = template
    return made


def sample(*messages, tools=None, text=None):
    return Sample("s", list(messages), {}, 3, "a.jsonl", tools, text)


def rendered(template, case, *, eos="<|stop|>", args=None, with_template_text=False, wrapper=None):
    return Renderer(tokenizer_with(template, eos), wrapper, args or {}, with_template_text).render(case)


def labels(rendering):
    return [text for text, is_label in rendering.segments if is_label]
