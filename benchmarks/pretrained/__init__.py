"""The study on a real pretrained model: perform, evidence, predictors, tables; trace and sink."""
