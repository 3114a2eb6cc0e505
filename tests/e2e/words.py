"""Comparing what was heard with what was said."""

import re

import jiwer


def plain(text: str) -> str:
    """Lower case, letters only, one space between words."""
    return " ".join(re.sub(r"[^a-z' ]", " ", text.lower()).split())


def word_error_rate(said: str, heard: str) -> float:
    return float(jiwer.wer(plain(said), plain(heard)))
