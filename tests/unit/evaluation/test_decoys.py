from gateway.evaluation.decoys import decoys


def test_a_mandarin_decoy_differs_by_a_sound_that_people_confuse_and_is_not_what_was_said() -> None:
    said = ["执行", "什么"]
    made = decoys(said, ["我们执行什么计划"], [])
    assert len(made) == 2
    assert not set(made) & set(said)
    kept = [sum(map(str.__eq__, decoy, word)) for decoy, word in zip(made, said, strict=True)]
    assert kept == [1, 1]


def test_an_english_decoy_is_the_most_similar_word_of_other_calls() -> None:
    assert decoys(["chains"], ["bound in chains"], ["a chain of events", "changes everywhere"]) == ["chain"]


def test_a_word_without_a_likeness_has_no_decoy() -> None:
    assert decoys(["quilter"], ["mister quilter"], ["something else entirely"]) == []


def test_a_word_that_was_said_is_no_decoy() -> None:
    assert decoys(["chains"], ["chains and a chain"], ["the chain"]) == []
