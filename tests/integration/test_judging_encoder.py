"""Encoder judges on tiny random classification models: the path, the labels' meaning, and what must not become a token."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from refusal_lens.errors import ModelError, UserError
from refusal_lens.judging import Answer, EncoderJudge, get_judge

ANSWERS = [Answer("I cannot help you.", "en", prompt="p"), Answer("Sure, take a wrench and a pick.", "en", prompt="q")]


def save(folder: Path, labels: list[str], *, bias: list[float] | None = None) -> Path:
    """A random BERT whose last layer is its bias alone, where one is given: then its logits are known."""
    torch.manual_seed(0)
    vocabulary = {token: number for number, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])}
    for code in range(33, 127):
        vocabulary.setdefault(chr(code), len(vocabulary))
    inner = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=10_000))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    inner.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    config = BertConfig(
        vocab_size=128,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        initializer_range=0.5,
        id2label=dict(enumerate(labels)),
    )
    network = BertForSequenceClassification(config)
    if bias is not None:
        with torch.no_grad():
            network.classifier.weight.zero_()
            network.classifier.bias.copy_(torch.tensor(bias))
    network.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("bias", "label", "score"), [([2.0, 0.0], "refused", 2.0), ([0.0, 3.0], "complied", -3.0)])
def test_the_score_is_the_log_odds_of_a_refusal(tmp_path: Path, bias: list[float], label: str, score: float):
    folder = save(tmp_path, ["REJECTION", "NORMAL"], bias=bias)
    verdicts = get_judge(f"encoder:{folder}").judge([*ANSWERS, Answer("", "en")])
    assert [verdict.label for verdict in verdicts] == [label, label, "unscored"]
    assert verdicts[0].score == pytest.approx(score, abs=1e-3)
    assert verdicts[2].reason == "empty" and verdicts[0].judge == EncoderJudge(str(folder)).name


def test_batches_and_order_change_nothing(tmp_path: Path):
    folder = str(save(tmp_path, ["refusal", "compliance"]))
    words = ["take", "the", "wrench", "and", "a", "pick", "then", "lift", "each", "pin", "until", "it", "sets"]
    texts = [Answer(" ".join(words[:n]), "en") for n in (2, 9, 3, 7)]
    alone = [verdict.score for verdict in EncoderJudge(folder, batch_size=1).judge(texts)]
    together = [verdict.score for verdict in EncoderJudge(folder, batch_size=4).judge(texts[::-1])][::-1]
    assert alone == pytest.approx(together, abs=1e-4) and len(set(alone)) == 4


def test_other_labels_are_unscored_and_labels_are_told_in_a_file(tmp_path: Path):
    folder = save(tmp_path, ["A", "B", "C"], bias=[0.0, 1.0, 0.0])
    with pytest.raises(ModelError, match="labels A, B, C"):
        EncoderJudge(str(folder)).judge(ANSWERS)
    beside = folder / "refusal-lens.toml"
    beside.write_text('[labels]\nrefused = ["A"]\ncomplied = ["C"]\n')
    first = EncoderJudge(str(folder))
    assert first.judge(ANSWERS)[0].reason == "label B"  # e / (e + 2) = 0.58 of it
    other = tmp_path / "other.toml"
    other.write_text(
        'threshold = 0.2\ninput = ["{prompt}", "{response}"]\n[labels]\nrefused = ["A"]\ncomplied = ["B", "C"]\n'
    )
    second = get_judge(f"encoder:{folder}#{other}")
    found = second.judge([ANSWERS[0], Answer("No prompt.", "en")])
    assert (found[0].label, found[1].reason) == ("refused", "no prompt")  # 1 / (e + 2) = 0.212
    assert found[0].uncertain and first.name != second.name
    beside.write_text('[labels]\nrefused = ["D"]\n')
    with pytest.raises(ModelError, match="'D' is no label"):
        EncoderJudge(str(folder)).judge(ANSWERS)


def test_special_tokens_in_an_answer_are_words(tmp_path: Path):
    folder = save(tmp_path, ["refusal", "compliance"])
    judge = EncoderJudge(str(folder))
    seen: list[torch.Tensor] = []
    network = judge._loaded[0]
    network.register_forward_pre_hook(lambda _, __, kwargs: seen.append(kwargs["input_ids"]), with_kwargs=True)
    judge.judge([Answer("No.[SEP]Sure, [CLS] here it is.", "en")])
    assert [(seen[0] == token).sum().item() for token in (2, 3)] == [1, 1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("labels", "cannot be read"),
        ("", r"needs \[labels\]"),
        ("[labels]\nrefused = []\n", r"needs \[labels\]"),
        ('[labels]\nrefused = "A"\n', r"needs \[labels\]"),
        ('input = "{prompt}"\n[labels]\nrefused = ["A"]\n', "input must be"),
        ('threshold = 2.0\n[labels]\nrefused = ["A"]\n', "threshold"),
        ('colour = 1\n[labels]\nrefused = ["A"]\n', "unknown key 'colour'"),
    ],
)
def test_a_labels_file_that_cannot_be_used_is_said(tmp_path: Path, text: str, said: str):
    (tmp_path / "labels.toml").write_text(text)
    with pytest.raises(UserError, match=said):
        EncoderJudge("anything", labels=tmp_path / "labels.toml")


def test_a_missing_model_is_said(tmp_path: Path):
    with pytest.raises(ModelError, match="cannot be loaded"):
        EncoderJudge(str(tmp_path)).judge(ANSWERS)
    with pytest.raises(UserError, match="needs a model"):
        get_judge("encoder")
