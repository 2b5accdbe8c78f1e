"""IFEval and IFBench before and after training, as far as they were measured with the adapter that the page shows."""

from cai_bootstrap.errors import UntrustedResultError
from cai_bootstrap.measuring.benchmarks import shown
from cai_bootstrap.measuring.benchmarks.checkers import BENCHMARKS
from cai_bootstrap.measuring.benchmarks.reading import read_benchmark
from cai_bootstrap.report.stage_files import Fault, StageFiles
from cai_bootstrap.report.tables import Table


def tables(run: StageFiles) -> list[Table]:
    """A table for each benchmark. A file that cannot be believed becomes a fault of the run, and is not shown.

    So does one of another adapter than the evaluated one.
    """
    parts = []
    for name in BENCHMARKS:
        path = run.workspace.benchmark(name)
        if not path.exists():
            continue
        try:
            results = read_benchmark(path)
        except UntrustedResultError as error:
            run.faults.append(Fault.of(path, error))
            continue
        if run.evaluated_adapter not in (None, results.adapter):
            run.faults.append(Fault(path, "it measured another adapter than the evaluation; not shown"))
            continue
        parts.append(Table(shown.caption(results), shown.HEAD, shown.rows(results), note=shown.note(results)))
    return parts
