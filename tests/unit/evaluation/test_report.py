from gateway.evaluation.figures import FinalTimes, LabelTimes
from gateway.evaluation.report import figures_of, markdown
from gateway.evaluation.scoring import Scored
from gateway.evaluation.wording import Edits


def scored() -> Scored:
    return Scored(
        minutes=2.0,
        labels=[LabelTimes("s1", 200, 80, 120)],
        finals=[FinalTimes("s1", 300, 900)],
        live_sides={"en": Edits(1, 0, 0, 10)},
        live_cpu={"gateway": 1.0, "recognizer": 5.0},
    )


def test_sums_over_calls_weigh_each_call_by_what_it_holds() -> None:
    total = Scored()
    total.add(scored())
    total.add(Scored(minutes=1.0, live_sides={"en": Edits(0, 0, 0, 30)}, live_cpu={"gateway": 0.5}))
    figures = figures_of(total)
    assert figures["call_minutes"] == 3.0
    assert figures["error_rate_live"]["en"]["rate"] == 0.025
    assert figures["cpu_s_per_call_minute_live"] == {"gateway": 0.5, "recognizer": 1.667, "all": 2.167}


def test_the_table_of_the_document_holds_every_variant_and_says_where_nothing_was_measured() -> None:
    table = markdown({"stereo": figures_of(scored()), "mono": figures_of(Scored(minutes=1.0))})
    assert "| label, ms | p95 <= 300 | 200 / 200 / 200 (1) | none |" in table
    assert "| WER live, en |  | 0.100 (10) |  |" in table
    assert len({line.replace("||", "").count("|") for line in table.splitlines()}) == 1
