"""Where the answers of one conversation begin and end in its rendering, and which parts of messages it lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trainables.data.defects import excerpt
from trainables.data.samples import Sample
from trainables.data.template.message_marks import Found, Message, Piece, without_thought
from trainables.data.template.rendering import unfit
from trainables.errors import UserError

if TYPE_CHECKING:
    from trainables.data.template.chat_template import ChatTemplate

STAND_IN = "\U0002a6d6"  # a text that stands for another: a rare ideograph that is no mark
CALLS = ("call", "argument")
PARTS = {"content": "text", "reasoning": "reasoning", "call": "tool call", "argument": "tool call"}


class Turn(NamedTuple):
    """A turn that is learnt: its characters in the rendering, and an end token that is to be put in at `stop`."""

    start: int
    stop: int
    end_token: str = ""


class Conversation:
    """One conversation in its rendering.

    Args:
        template: The template that rendered it.
        sample: For errors.
        messages: The messages as the template got them.
        text: The rendering.
        found: Where the pieces of the messages stand, in the order of the text.
        pieces: All pieces; those that are not found were dropped.
    """

    def __init__(
        self,
        template: ChatTemplate,
        sample: Sample,
        messages: list[Message],
        text: str,
        found: list[Found],
        pieces: list[Piece],
    ) -> None:
        self._template, self._sample, self._messages, self._text = template, sample, messages, text
        self._found, self._pieces = found, pieces
        tail = text[max((f.closing for f in found if f.piece.message == len(messages) - 1), default=0) :]
        self._closes_turns = template.end_tokens.search(tail) is not None

    def dropped_parts(self) -> list[tuple[str, str]]:
        """Returns a note for reasoning that the template leaves out of earlier turns, as many do by design.

        Raises:
            UserError: The template drops any other part.
        """
        notes, kept = [], {id(f.piece) for f in self._found}
        last = max(i for i, message in enumerate(self._messages) if message["role"] == "assistant")
        for piece in self._pieces:
            if id(piece) in kept:
                continue
            if piece.kind != "reasoning" or piece.message == last:
                raise self._dropped(piece)
            notes.append(("reasoning_left_out", piece.name.rpartition(".")[2]))
        return notes

    def turn(self, i: int, with_template_text: bool) -> Turn | None:
        """The label of assistant turn i; None where nothing of it is rendered.

        Args:
            i: Index of the message.
            with_template_text: Begin where the generation prompt ends, not at the message's first text.
        """
        own = self._own(i)
        if not own:
            if i == len(self._messages) - 1:
                raise unfit(self._sample, "an answer must hold a text or a tool call", f"none in messages[{i}]")
            return None
        if any(own[0].start < f.start < own[-1].start and f.piece.message != i for f in self._found):
            rule = "the chat template must keep the parts of a message together"
            raise unfit(self._sample, rule, f"another message between the text and the tool call of messages[{i}]")
        plain = self._with_plain_answer(i) if own[0].piece.kind in CALLS or own[-1].piece.kind in CALLS else None
        return self._ended(i, own, self._start(i, own[0], plain, with_template_text), plain)

    def answer(self, i: int) -> tuple[str, str | None]:
        """The text that answers to turn i are compared with, and the text between its reasoning and it, if any."""
        content = self._messages[i].get("content") or ""
        thoughts = [f for f in self._own(i) if f.piece.kind == "reasoning"]
        said = [f for f in self._own(i) if f.piece.kind == "content"]
        if not (thoughts and said and thoughts[-1].stop <= said[0].start):
            return content, None
        mark = self._text[thoughts[-1].stop : said[0].start].strip()
        return without_thought(content), mark or None

    def lead(self, i: int) -> str:
        """What stands between the text before turn i and its own first text."""
        own = self._own(i)
        return self._text[self._before(own[0]) : own[0].start] if own else ""

    def given_text(self, i: int) -> str | None:
        """What stands between the generation prompt and turn i's first text; None where that prompt differs."""
        own = self._own(i)
        asked = self._template.attempt(self._messages[:i], self._sample.tools, add_generation_prompt=True)
        if not own or own[0].piece.kind != "content" or asked is None or not self._text.startswith(asked):
            return None
        return self._text[len(asked) : own[0].opening].strip()

    def _own(self, i: int) -> list[Found]:
        return [f for f in self._found if f.piece.message == i]

    def _before(self, first: Found) -> int:
        others = (f.closing for f in self._found if f.piece.message != first.piece.message and f.stop <= first.start)
        return max(others, default=0)

    def _with_plain_answer(self, i: int) -> str | None:
        """The conversation with a text in place of turn i's tool calls."""
        stand_in = {"role": "assistant", "content": STAND_IN}
        rendered = self._template.attempt([*self._messages[:i], stand_in, *self._messages[i + 1 :]], self._sample.tools)
        return rendered if rendered and STAND_IN in rendered else None

    def _start(self, i: int, first: Found, plain: str | None, with_template_text: bool) -> int:
        if with_template_text:
            return self._prompt_end(i, first)
        if first.piece.kind in CALLS and plain:
            # Up to the call both are the same, such as the header and an empty thought.
            common = _shared(self._text, plain)
            if self._before(first) <= common <= first.start:
                return common
        if first.piece.kind in CALLS or not first.is_verbatim:
            return self._prompt_end(i, first)
        # A thought that the prompt has opened already is not written again.
        return max(first.opening, self._prompt_end(i, first)) if self._template.opened_thought else first.opening

    def _prompt_end(self, i: int, first: Found) -> int:
        """Where the generation prompt for turn i ends; where the turn's text begins if there is no such prompt."""
        prompt, tools, before = self._messages[:i], self._sample.tools, self._before(first)
        bare = self._template.attempt(prompt, tools)
        asked = self._template.attempt(prompt, tools, add_generation_prompt=True)
        if bare is None or asked is None or not asked.startswith(bare):
            return first.start
        # An answer without reasoning may lack the end of the header, where that opens a thought.
        header, lead = asked[len(bare) :], self._text[before : first.start]
        for length in range(len(header), 0, -1):
            if (place := lead.rfind(header[:length])) >= 0:
                return before + place + length
        return first.start

    def _ended(self, i: int, own: list[Found], start: int, plain: str | None) -> Turn:
        last = own[-1]
        later = (f.opening for f in self._found if f.start >= last.stop and f.piece.message != i)
        rest = self._text[last.closing : min(later, default=len(self._text))]
        stop = self._end_of_call(i, last, rest, plain) if last.piece.kind in CALLS else self._end_of_text(rest)
        if stop is not None:
            return Turn(start, last.closing + stop)
        token = self._missing_end_token(i, last)
        if last.is_verbatim and last.piece.kind not in CALLS:
            return Turn(start, last.closing, token)
        return Turn(start, self._stop_of_cut(i, last, rest), token)

    def _end_of_text(self, rest: str) -> int | None:
        """Length of the start of `rest`, the text behind an answer, that ends the turn; None if no token does."""
        hits = list(self._template.end_tokens.finditer(rest))
        # Where a template ends no turn, the next one's first token does, if nothing stands between.
        if not hits or not (self._closes_turns or hits[0].start() == 0):
            return None
        stop = hits[0].end()
        for hit in hits:
            if hit.start() > stop:
                break
            if hit[0] == self._template.eos_token:  # of several end tokens in a row, up to the end-of-text token
                return hit.end()
            stop = hit.end()
        return hits[0].end()

    def _end_of_call(self, i: int, last: Found, rest: str, plain: str | None) -> int | None:
        """As `_end_of_text`, behind the last text of a tool call, whose syntax has tokens of its own."""
        # Cut off behind the turn, the rendering goes on as the whole one does until the next turn begins there.
        cut = self._template.attempt(self._messages[: i + 1], self._sample.tools) or ""
        own = rest[: _shared(cut[last.stop :], rest)] if cut.startswith(self._text[: last.stop]) else rest
        closing = self._template.end_tokens.search(plain, plain.index(STAND_IN)) if plain else None
        ends = [token for token in (self._template.eos_token, closing[0] if closing else None) if token]
        for token in (token for token in ends if token in own):
            return own.index(token) + len(token)
        hits = [hit for hit in self._template.end_tokens.finditer(own) if hit[0] in self._template.special_tokens]
        if hit := hits[-1] if hits else self._template.end_tokens.match(rest, len(own)):
            return hit.end()
        return next((rest.index(token) + len(token) for token in ends if token in rest), None)

    def _missing_end_token(self, i: int, last: Found) -> str:
        """The end token to put in: the first of the next turn where that ends an answer, else the tokenizer's."""
        if i == len(self._messages) - 1:
            role = "tool" if last.piece.kind in CALLS else "user"
            more = [*self._messages, {"role": role, "content": STAND_IN}]
            followed = self._template.attempt(more, self._sample.tools) or ""
            same = followed.startswith(self._text[: last.closing])
            if marker := self._template.end_tokens.match(followed, last.closing) if same else None:
                return marker[0]
        if self._template.eos_token is None:
            rule = "a template that ends no answer needs a tokenizer with an end-of-text token"
            raise UserError("model.name", rule, "none", "use a model whose tokenizer has one")
        return self._template.eos_token

    def _stop_of_cut(self, i: int, last: Found, rest: str) -> int:
        if i == len(self._messages) - 1:
            return last.stop + len(rest.rstrip())
        cut = (self._template.attempt(self._messages[: i + 1], self._sample.tools) or "").rstrip()
        if len(cut) < last.stop or not self._text.startswith(cut):
            rule = "the chat template must show where each answer ends"
            raise unfit(self._sample, rule, f"no end of messages[{i}]")
        return len(cut)

    def _dropped(self, piece: Piece) -> UserError:
        rule = "the chat template must show every part of a sample"
        remedy = "take that part out, or give a template that shows it in data.chat_template"
        if piece.message is None:
            return unfit(self._sample, rule, f"nothing of {piece.name}", remedy)
        message = self._messages[piece.message]
        beside = " beside a tool call" if piece.kind == "content" and message.get("tool_calls") else ""
        said = f": {excerpt(' '.join((piece.before + piece.after).split()))}" if piece.before else ""
        got = f"nothing of {piece.name}, the {message['role']}'s {PARTS[piece.kind]}{beside}{said}"
        return unfit(self._sample, rule, got, remedy)


def _shared(first: str, second: str) -> int:
    """Length of the start that two texts share."""
    differences = (place for place, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    return next(differences, min(len(first), len(second)))
