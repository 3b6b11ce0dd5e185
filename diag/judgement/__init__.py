"""From numbers to meaning: limits, findings, verdicts, sentences. No model, no files."""
