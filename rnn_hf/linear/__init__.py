"""Linear models of n-grams and of lexical features, which are solved before training."""
