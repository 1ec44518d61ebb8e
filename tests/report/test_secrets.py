"""A report is shown to others: what the environment knows stays there."""

from ganaug.report import write_report


def test_a_report_says_nothing_of_the_environment(build_run, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2-in-the-environment")
    run = build_run().through("publish").run
    write_report(run.folder, run.folder, run.config)
    files = [path for path in run.folder.rglob("*") if path.is_file()]
    assert (run.folder / "report.html") in files
    assert not [path for path in files if b"hunter2-in-the-environment" in path.read_bytes()]
