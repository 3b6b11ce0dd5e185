"""What a model answers, by teacher forcing: how probable given answers are, and at which rank.

As for perplexity, prompts run through the whole model once and every edit of the block re-runs
only the blocks above it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from probes.edited.blocks_above import UpperBlocks
from probes.edited.weights import Change
from probes.forward.batches import batches, tokens_at_once
from probes.forward.recording import Waiting
from probes.model.loaded import LoadedModel
from rome_diagnosis.errors import UserError


@dataclass(frozen=True)
class Question:
    """A prompt and the answers to score.

    Attributes:
        prompt: Text the model continues.
        answers: Continuations; a leading space is added where one is missing.
    """

    prompt: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class AnswerScore:
    """How the model takes one answer.

    Attributes:
        probability: Geometric mean over the answer's tokens, which is how the published code
            compares answers of different lengths.
        rank: Rank of its first token among all next tokens; 1 is the most probable.
        greedy: Whether each of its tokens is the most probable one, so that greedy decoding
            gives exactly this answer.
    """

    probability: float
    rank: int
    greedy: bool


@dataclass(frozen=True)
class Reply:
    """What the model makes of one question.

    Attributes:
        scores: One for each answer.
        top: Id of the most probable next token.
    """

    scores: tuple[AnswerScore, ...]
    top: int


@dataclass(frozen=True)
class _Batch:
    """Some rows, as the unedited model left them, and the answers' tokens that are read there."""

    recording: Waiting
    at: tuple[Int[Tensor, " n"], Int[Tensor, " n"]]
    wanted: Int[Tensor, " n"]
    mine: list[int]
    rows: list[int]


@dataclass(frozen=True)
class _Read:
    """What is read of each answer's token: its log-probability, its rank and the best token."""

    log_probs: Float[Tensor, " token"]
    ranks: Int[Tensor, " token"]
    tops: Int[Tensor, " token"]

    @classmethod
    def of(cls, n: int) -> _Read:
        return cls(
            torch.zeros(n, dtype=torch.float64),
            torch.zeros(n, dtype=torch.long),
            torch.zeros(n, dtype=torch.long),
        )

    @torch.no_grad()
    def write(self, mine: list[int], logits: Tensor, wanted: Int[Tensor, " n"]) -> None:
        logits = logits.float()
        own = logits.gather(1, wanted[:, None])
        self.log_probs[mine] = (own[:, 0] - logits.logsumexp(1)).cpu().double()
        self.ranks[mine] = 1 + (logits > own).sum(1).cpu()
        self.tops[mine] = logits.argmax(1).cpu()


class AnswerMeter:
    """Scores the answers to a fixed set of questions under any number of edits of one block."""

    def __init__(self, model: LoadedModel, questions: Sequence[Question], layer: int) -> None:
        """Runs the prompts through the unedited model.

        Args:
            model: The loaded model.
            questions: Each with at least one answer.
            layer: The block to be edited.

        Raises:
            UserError: If an answer is empty, if a token straddles a prompt and its answer, or if
                the two are longer than the model can read.
        """
        self.upper = UpperBlocks(model.exact(), layer)
        self._questions = tuple(questions)
        rows: dict[tuple[int, ...], int] = {}
        # For each answer: its row, the position that predicts its first token, and its tokens.
        self._places: list[list[tuple[int, int, list[int]]]] = []
        for question in self._questions:
            places = []
            for answer in question.answers:
                prompt, tokens = target_tokens(model, question.prompt, answer)
                n = len(prompt) + len(tokens) - 1
                if n > self.upper.longest_text:
                    raise UserError(
                        f"the prompt {question.prompt[:40]!r}… has {n} tokens with its answer, "
                        f"but {model.name} reads only {self.upper.longest_text}"
                    )
                row = rows.setdefault((*prompt, *tokens[:-1]), len(rows))
                places.append((row, len(prompt) - 1, tokens))
            self._places.append(places)
        read = [
            (row, start + i, token)
            for places in self._places
            for row, start, tokens in places
            for i, token in enumerate(tokens)
        ]
        texts, most = list(rows), tokens_at_once(model) // 2  # what is kept of them is wide
        self._batches: list[_Batch] = []
        before = _Read.of(len(read))
        for batch in batches(texts, model, batch_tokens=most) if texts else ():
            here = {row: i for i, row in enumerate(batch.rows)}
            mine = [i for i, (row, _, _) in enumerate(read) if row in here]
            at = (
                torch.tensor([here[read[i][0]] for i in mine], device=model.device),
                torch.tensor([read[i][1] for i in mine], device=model.device),
            )
            wanted = torch.tensor([read[i][2] for i in mine], device=model.device)
            recording = self.upper.record([texts[row] for row in batch.rows])
            self._write(before, mine, recording.final[at], wanted)
            self._batches.append(
                _Batch(self.upper.for_edits(recording), at, wanted, mine, batch.rows)
            )
        self._n = len(read)
        self.before = self._replies(before)

    @torch.no_grad()
    def after(self, factors: Sequence[Change]) -> list[Reply]:
        """The replies of the edited model.

        Args:
            factors: The rank-one changes of the block's output projection.

        Returns:
            One reply for each question.
        """
        after = _Read.of(self._n)
        for batch in self._batches:
            final = self.upper.edited_final(batch.recording.taken(), factors, batch.at)
            self._write(after, batch.mine, final, batch.wanted)
        return self._replies(after)

    def _write(
        self,
        to: _Read,
        mine: list[int],
        final: Float[Tensor, "n d_embedding"],
        wanted: Int[Tensor, " n"],
    ) -> None:
        for some, logits in self.upper.heads(final):
            to.write(mine[some], logits, wanted[some])
            del logits  # before the next ones are made

    @torch.no_grad()
    def response(self, steps: Float[Tensor, "m d_mlp"]) -> Float[Tensor, "question m"]:
        """φ, the share of each edit's change that a question's prompt receives, by its keys alone.

        Args:
            steps: A row w for each edit, φ(q) = w·q; for a rank-one change u / D.

        Returns:
            For each question φ of every edit, signed, at the token of its prompt that receives
            most of them together.
        """
        shares: dict[int, Tensor] = {}
        for batch in self._batches:
            own = batch.recording.taken().keys.double().cpu() @ steps.T.double()
            shares |= zip(batch.rows, own, strict=True)
        # All answers of a question come after the same prompt.
        prompts = [shares[row][: start + 1] for row, start, _ in (p[0] for p in self._places)]
        return torch.stack([each[each.norm(dim=1).argmax()] for each in prompts])

    def _replies(self, read: _Read) -> list[Reply]:
        replies, next_ = [], 0
        for places in self._places:
            scores, top = [], -1
            for _, _, tokens in places:
                part = slice(next_, next_ + len(tokens))
                next_ += len(tokens)
                top = int(read.tops[part][0])
                scores.append(
                    AnswerScore(
                        probability=float(read.log_probs[part].mean().exp()),
                        rank=int(read.ranks[part][0]),
                        greedy=read.tops[part].tolist() == tokens,
                    )
                )
            replies.append(Reply(tuple(scores), top))
        return replies


def target_tokens(model: LoadedModel, text: str, target: str) -> tuple[list[int], list[int]]:
    """Tokenises a prompt with what should follow it.

    The two are tokenised as one text, as the model would read them, so that a tokenizer that
    marks word beginnings needs no special case.

    Args:
        model: Gives the tokenizer.
        text: The prompt.
        target: What should follow; a leading space is added where it has none.

    Returns:
        The prompt's ids and the target's.

    Raises:
        UserError: If the target is empty, or a token straddles the two.
    """
    if not target.strip():
        raise UserError("the target is empty: say what the model should answer")
    spaced = target if target[0].isspace() else " " + target
    tokens = model.tokens(text + spaced)
    following = [
        i for i, (start, stop) in enumerate(tokens.offsets) if stop > len(text) and stop > start
    ]
    first = following[0]
    if tokens.offsets[first][0] < len(text):
        raise UserError(
            f"the prompt {text!r} does not end where a token ends: drop its trailing white space"
        )
    return tokens.ids[:first], tokens.ids[first:]
