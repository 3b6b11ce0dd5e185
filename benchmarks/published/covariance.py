"""Estimating C beside the published loop, on the same model and the same text, in one run.

    python -m benchmarks.published.covariance --rome CHECKOUT_OF_kmeng01/rome [--text FILE]

The published loop (``layer_stats``) tokenises document by document, sorts a hundred of them by
length into padded batches, runs each up to the layer, and adds float64 products up, once for each
layer. Ours packs documents into full rows, takes all layers in one pass of a model without hook
points, and leaves out what a symmetric product has twice.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.published.reference import published_modules
from probes import bundled
from probes.model.load import load
from probes.second_moment import corpus_pass
from probes.text import corpus, documents


def published_loop(
    checkout: Path, model: Any, tokenizer: Any, texts: list[str], layer: int, limit: int
) -> tuple[torch.Tensor, int, float]:
    """The checkout's own loop over its own batches; its sum, token count and seconds."""
    published_modules(checkout)
    with contextlib.chdir(checkout), contextlib.redirect_stdout(io.StringIO()):
        tok_dataset = importlib.import_module("rome.tok_dataset")
        nethook = importlib.import_module("util.nethook")
        runningstats = importlib.import_module("util.runningstats")
    n_positions = model.config.n_positions
    tokenised = tok_dataset.TokenizedDataset(
        [{"text": text} for text in texts], tokenizer, maxlen=n_positions
    )
    stat = runningstats.CombinedStat(mom2=runningstats.SecondMoment())
    loader = torch.utils.data.DataLoader(
        tokenised, batch_size=100, collate_fn=tok_dataset.length_collation(n_positions * 3)
    )
    counted = 0
    began = time.perf_counter()
    with torch.no_grad():
        for group in loader:
            for batch in group:
                with nethook.Trace(
                    model, f"transformer.h.{layer}.mlp.c_proj", retain_input=True,
                    retain_output=False, stop=True,
                ) as trace:  # fmt: skip
                    model(**batch)
                keys = tok_dataset.flatten_masked_batch(trace.input, batch["attention_mask"])
                stat.add(keys.to(torch.float64))
                counted += len(keys)
            if counted >= limit:
                break
    return stat.mom2.moment(), counted, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description="Estimating C beside the published loop.")
    parser.add_argument("--rome", type=Path, required=True, help="a checkout of kmeng01/rome")
    parser.add_argument("--text", action="append", help="as diag.covariance (default: packaged)")
    parser.add_argument("--text-field", help="as diag.covariance")
    parser.add_argument("--tokens", type=int, default=200_000)
    parser.add_argument(
        "--layers", type=int, nargs="+", help="default: the edited one and the next"
    )
    options = parser.parse_args()
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = bundled.model_path()
    ours = load(path)
    plain = AutoModelForCausalLM.from_pretrained(path).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    text = (
        documents.read_documents(options.text, field=options.text_field)
        if options.text
        else corpus.packaged()
    )
    layers = options.layers or [bundled.edit_layer(), bundled.edit_layer() + 1]
    texts = list(text.documents)
    results: dict[str, Any] = {"threads": torch.get_num_threads(), "layers": layers}
    for count in (1, len(layers)):
        job = corpus_pass.Pass(ours, layers[:count], text, corpus.row_length(ours), options.tokens)
        began = time.perf_counter()
        moments = corpus_pass.pass_over(job)
        seconds = time.perf_counter() - began
        n = moments[layers[0]].n_tokens
        results[f"ours, {count} layer(s)"] = {
            "tokens": n, "seconds": seconds, "tokens_per_second": n / seconds,
        }  # fmt: skip
    total, seconds = 0, 0.0
    for layer in layers:
        _, counted, spent = published_loop(
            options.rome.resolve(), plain, tokenizer, texts, layer, options.tokens
        )
        total, seconds = counted, seconds + spent
        if layer == layers[0]:
            results["published, 1 layer"] = {
                "tokens": counted, "seconds": spent, "tokens_per_second": counted / spent,
            }  # fmt: skip
    results[f"published, {len(layers)} layers"] = {
        "tokens": total, "seconds": seconds, "tokens_per_second": total / seconds,
    }  # fmt: skip
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
