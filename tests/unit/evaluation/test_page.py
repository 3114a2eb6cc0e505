from xml.etree import ElementTree

import pytest

from gateway.evaluation.figures import AlertTime, FinalTimes, LabelTimes
from gateway.evaluation.outcomes import outcomes
from gateway.evaluation.page import page
from gateway.evaluation.rulemaking import MadeRule
from gateway.evaluation.scoring import Scored
from gateway.evaluation.wording import Edits


def scored(latency_ms: float = 700) -> Scored:
    rules = [MadeRule("<script>alert</script>", "given", due=True)]
    return Scored(
        minutes=2.0,
        labels=[LabelTimes("s1", 200, 80, 120)],
        finals=[FinalTimes("s1", 300, 900)],
        alerts=[AlertTime("x", latency_ms, on_partial=True, language="en")],
        outcomes=outcomes("call", rules, [], 0),
        live_sides={"en": Edits(1, 0, 0, 10)},
        live_cpu={"gateway": 1.0},
    )


def test_the_page_needs_nothing_from_elsewhere_and_runs_no_rule_as_script() -> None:
    made = page({"stereo": scored()})
    assert "<script" not in made
    assert "&lt;script&gt;alert&lt;/script&gt;" in made
    assert "src=" not in made
    assert "@import" not in made


def test_every_plot_is_well_formed_and_names_its_variants() -> None:
    made = page({"stereo": scored(), "mono": scored()})
    plots = [part[: part.index("</svg>") + 6] for part in made.split("<figcaption>")[1:]]
    drawn = [ElementTree.fromstring(plot[plot.index("<svg") :]) for plot in plots]
    texts = {"".join(text.itertext()) for plot in drawn for text in plot.iter("{http://www.w3.org/2000/svg}text")}
    assert len(drawn) == 3
    assert {"stereo", "mono", "label", "alert from end of keyword"} <= texts


@pytest.mark.parametrize("values", [("45", "50"), ("whisper-base", "whisper-tiny.en")])
def test_a_sweep_is_drawn_over_its_values_be_they_numbers_or_names(values: tuple[str, str]) -> None:
    made = page({f"stereo recognizer={value}": scored() for value in values}, sweep="recognizer")
    assert "<h2>By recognizer</h2>" in made
    assert all(f">{value}</text>" in made for value in values)


def test_equal_figures_give_an_equal_page() -> None:
    assert page({"stereo": scored()}) == page({"stereo": scored()})
