from pathlib import Path

from lmadapt.training.result import TrainingResult


def test_the_curve_has_a_line_per_step_and_per_evaluation(tmp_path: Path) -> None:
    step = {
        "step": 1,
        "learning_rate": 1e-4,
        "gradient_norm": 0.5,
        "loss": 2.25,
        "domain": 2.5,
        "replay": 1.5,
    }
    evaluated = [{"step": 0, "heldout_domain": 1.25, "heldout_general": 1.0}]
    result = TrainingResult(10, 9, 8, [step, {**step, "step": 2, "loss": 1.75}], evaluated, 2)
    result.write_curve(tmp_path / "curve")
    assert (tmp_path / "curve" / "loss.tsv").read_text().splitlines() == [
        "step\tlearning_rate\tgradient_norm\tloss\tdomain\treplay",
        "1\t0.0001\t0.5\t2.25\t2.5\t1.5",
        "2\t0.0001\t0.5\t1.75\t2.5\t1.5",
    ]
    assert (tmp_path / "curve" / "heldout.tsv").read_text().splitlines() == [
        "step\theldout_domain\theldout_general",
        "0\t1.25\t1",
    ]
    assert result.metrics()["loss_first"] == 2.25
    assert result.metrics()["loss_last"] == 1.75
    assert result.metrics()["heldout_bits_per_byte"] == evaluated
