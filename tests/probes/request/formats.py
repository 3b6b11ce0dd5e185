"""One fact as each published format writes it, field names and nesting as in the released files."""

from __future__ import annotations

from typing import Any

SUBJECT, PROMPT = "Danielle Darrieux", "The mother tongue of {} is"
FILLED = PROMPT.format(SUBJECT)

ROME: dict[str, Any] = {
    "case_id": 7,
    "pararel_idx": 2796,
    "requested_rewrite": {
        "prompt": PROMPT,
        "relation_id": "P103",
        "target_new": {"str": "English", "id": "Q1860"},
        "target_true": {"str": "French", "id": "Q150"},
        "subject": SUBJECT,
    },
    "paraphrase_prompts": ["Shayna does this. Danielle Darrieux spoke", "Where she is from"],
    "neighborhood_prompts": ["The mother tongue of L\u00e9on Blum is", "Montesquieu spoke"],
    "attribute_prompts": ["J.R.R. Tolkien spoke"],
    "generation_prompts": ["Danielle Darrieux lives in"],
}
COUNTERFACT: dict[str, Any] = {  # in EasyEdit's format
    "case_id": 0,
    "prompt": FILLED,
    "target_new": "English",
    "subject": SUBJECT,
    "ground_truth": "French",
    "rephrase_prompt": "Where Danielle Darrieux is from, people speak",
    "locality_prompt": "Michel Rocard is a native speaker of",
    "locality_ground_truth": "French",
}
PARALLEL: dict[str, Any] = {  # the arguments of EasyEdit's edit(), as a file
    "prompts": [FILLED, "Apple was founded by"],
    "subject": [SUBJECT, "Apple"],
    "target_new": ["English", "Bill Gates"],
    "ground_truth": ["French", "<|endoftext|>"],
    "rephrase_prompts": ["Danielle Darrieux speaks", ""],
    "locality_inputs": {
        "neighborhood": {
            "prompt": ["Michel Rocard speaks", ["Intel was founded by", "HP was founded by"]],
            "ground_truth": ["French", ["Robert Noyce", "Bill Hewlett"]],
        },
        "distracting": {"prompt": ["She said:", ""], "ground_truth": ["French", ""]},
    },
    "portability_inputs": {
        "one_hop": {
            "prompt": ["Danielle Darrieux greets with", "Apple's founder studied at"],
            "ground_truth": ["Hello", "Harvard"],
        },
    },
    "keep_original_weight": True,
}
ZSRE: dict[str, Any] = {
    "subject": SUBJECT,
    "src": "What is the mother tongue of Danielle Darrieux?",
    "pred": "Dutch",
    "rephrase": "Which language did Danielle Darrieux grow up with?",
    "alt": "English",
    "answers": ["French", "the French language"],
    "loc": "nq question: who played desmond doss father in hacksaw ridge",
    "loc_ans": "Hugo Weaving",
    "cond": "Dutch >> English || What is the mother tongue of Danielle Darrieux?",
    "portability": {
        "Recalled Relation": "(English, country, England)",
        "New Question": "Where does the mother tongue of Danielle Darrieux come from?",
        "New Answer": "England",
    },
}
KNOWEDIT: dict[str, Any] = {
    "subject": SUBJECT,
    "prompt": FILLED,
    "target_new": "English",
    "ground_truth": ["French"],
    "portability": {
        "Logical_Generalization": [
            {"prompt": "Does she speak English?", "ground_truth": [["yes"], ["true"]]}
        ],
        "Subject_Aliasing": [
            {
                "prompt": "The mother tongue of Danielle Yvonne Marie Darrieux is",
                "ground_truth": [["English", "English language"]],
            }
        ],
    },
    "locality": {
        "Relation_Specificity": [
            {"prompt": "The gender of Danielle Darrieux is", "ground_truth": [["female", "woman"]]}
        ],
        "Unrelated": [{"prompt": ["The capital of Germany is"], "ground_truth": ["Berlin"]}],
        "Forgetfulness": [
            {
                "prompt": "Her mother tongue, which is not English, is",
                "ground_truth": "French",
            }
        ],
    },
}
WIKIBIO: dict[str, Any] = {
    "text": "This is a Wikipedia passage about john russell reynolds. Sir John was a neurologist.",
    "labels": "He received general education from his father.",
    "concept": "john russell reynolds",
    "locality": {
        "Relation_Specificity": [
            {
                "prompt": "The field of work of john russell reynolds is",
                "ground_truth": ["medicine"],
            }
        ]
    },
}
RECORDS = {
    "ROME": ROME,
    "COUNTERFACT": COUNTERFACT,
    "parallel lists": PARALLEL,
    "zsRE": ZSRE,
    "KnowEdit": KNOWEDIT,
    "WikiBio": WIKIBIO,
}
