from __future__ import annotations

from pathlib import Path

from stkit.jobs.report import REPORT, Row, write_report
from tests.cli.harness import Cli, error_line


def test_report_writes_a_page_of_an_output_folder(cli: Cli, tmp_path: Path) -> None:
    write_report([Row("a.jpg", "failed", "no face found")], tmp_path / "out" / REPORT)
    result = cli("report", "out")
    assert (result.code, result.out, result.err) == (0, "out/report.html\n", "")
    assert "no face found" in (tmp_path / "out" / "report.html").read_text()
    result = cli("report", "elsewhere")
    assert result.code == 2 and "--out folder of stkit invert" in error_line(result)
