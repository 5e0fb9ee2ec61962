"""The names that formats of fine-tuning data give to roles, marks and parts of a sample.

Sources: the data documentation of OpenAI, Mistral, TRL, Axolotl, LLaMA-Factory, ms-swift, torchtune, xtuner and NeMo.
"""

from __future__ import annotations

from typing import Any

Fault = tuple[str, str]  # name of the broken rule, and what was found
Messages = list[dict[str, Any]]

CONVERSATION_KEYS = ("messages", "conversations", "conversation")
SYSTEM_KEYS = ("system", "system_prompt", "system_message")
TOOL_KEYS = ("tools", "functions")
INPUT_KEYS = ("input", "context")  # Alpaca's and Dolly's second part of the prompt

_ROLE_NAMES = {
    "user": ("user", "human", "prompter"),
    "assistant": ("assistant", "gpt", "chatgpt", "bing", "bard", "bot", "chatbot", "ai", "model"),
    "system": ("system",),
    "tool": ("tool", "function", "function_response", "tool_response", "tool_result"),
}
ROLES = {name: role for role, names in _ROLE_NAMES.items() for name in names}
CALL_ROLES = ("function_call", "tool_call", "tool_calls")
# LLaMA-Factory's tool results. In conversations without such calls it is a role of GLM's own templates.
RESULT_ROLES = ("observation", "observations")

# A turn in one object: the user's text under one of the first keys, the assistant's under one of the second.
PAIR_KEYS = (("human", "user", "query", "input", "instruction"), ("assistant", "gpt", "bot", "response", "output"))

# Marks of a turn: whether it is learnt. True means that the mark says so, False that it says the opposite.
MARKS = {
    "weight": True,  # OpenAI, Mistral, Axolotl
    "loss_weight": True,  # LLaMA-Factory
    "loss_scale": True,  # ms-swift
    "loss": True,  # ms-swift, xtuner
    "train": True,  # Axolotl
    "training": True,
    "train_on_turn": True,
    "trainable": True,
    "learn": True,
    "output_with_loss": True,  # xtuner
    "masked": False,  # torchtune
    "mask": False,
    "masking": False,
}
# ms-swift and OpenAI read their marks on the assistant's turns alone; the others can make a user's turn a label.
ASSISTANT_MARKS = ("weight", "loss", "loss_scale", "masked", "mask", "masking")
SPAN_MARKS = ("train_detail",)  # Axolotl: parts of a turn by characters

TEXT_PARTS = ("text", "input_text", "output_text")
REASONING_PARTS = ("reasoning", "thinking", "think")
# Of a message: its text (Gemini's and OASST's beside the usual), and what was thought before it.
CONTENT_KEYS = ("content", "value", "text", "parts")
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
PART_TEXT_KEYS = ("text", "value", "content", "thinking", "reasoning")

# Message keys that chat templates read; the plan lists others with their count.
TEMPLATE_KEYS = ("role", "content", "tool_calls", "tool_call_id", "name", "reasoning_content", "weight")
# Keys of a row that other parts of the product read from the metadata.
READ_METADATA = ("group", "domain", "source", "skill")

# Keys of a row that no text model reads; a row that has them filled is refused.
UNREADABLE = {
    "images": "other tools show them to the model",
    "videos": "other tools show them to the model",
    "audios": "other tools play them to the model",
    "chat_template_kwargs": "other tools give them to the chat template; set data.template_args for all rows",
}
# Keys that other tools read as part of a sample or as a mark. Unread, they deserve a look.
MEANINGS = {
    **dict.fromkeys((*INPUT_KEYS, "history", "documents"), "a part of the prompt"),
    **dict.fromkeys((*SYSTEM_KEYS, "instruction", "query", "question"), "a part of the prompt"),
    **dict.fromkeys(TOOL_KEYS, "the tools that the model may call"),
    **dict.fromkeys((*CONVERSATION_KEYS, "text", "completion", "output", "answer", "prompt", "response"), "a text"),
    **dict.fromkeys(("image", "video", "audio", "images", "videos", "audios"), "a part of the prompt"),
    **dict.fromkeys(("reasoning", "reasoning_content", "thinking", "thought", "rationale", "cot"), "reasoning"),
    **dict.fromkeys(("chosen", "chosen_messages"), "the better answer"),
    **dict.fromkeys(("rejected", "rejected_response", "rejected_messages"), "the worse answer"),
    **dict.fromkeys(("label", "kto_tag"), "whether the answer is wanted"),
    **dict.fromkeys(
        (*MARKS, *SPAN_MARKS, "segments", "sample_weight", "loss_mask", "prompt_mask"), "what is learnt, and how much"
    ),
    **dict.fromkeys(("input_ids", "labels", "attention_mask", "completion_mask"), "tokens"),
    **dict.fromkeys(("chat_template_kwargs",), "arguments of the chat template"),
}

PROMPT_LIKE = (
    "question",
    "query",
    "input",
    "inputs",
    "instruction",
    "problem",
    "user",
    "human",
    "source",
    "article",
    "document",
    "dialogue",
    "input_text",
    "context",
)
RESPONSE_LIKE = (
    "answer",
    "output",
    "completion",
    "target",
    "targets",
    "solution",
    "summary",
    "highlights",
    "output_text",
    "assistant",
    "answers",
    "reply",
)
