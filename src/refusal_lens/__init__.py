"""RefusalLens: how a language model refuses, in 14 languages and from the inside."""
