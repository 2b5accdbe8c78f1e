"""`cai step NAME`: the body of one step, as the pipeline runs it in a process of its own. Not for people."""

import sys
import traceback
from pathlib import Path
from typing import Any

import click


@click.command(hidden=True)
@click.argument("name")
@click.option("--config", "config_file", type=click.Path(path_type=Path), required=True)
@click.option("--run", "run_id", required=True)
@click.option("--round", "round_number", type=int, default=1)
def step(name: Any, config_file: Path, run_id: str, round_number: int) -> int:
    """Do one step with a resolved configuration file; events go to the run's log."""
    from cai_bootstrap.supervise import StopRequest, die_with_parent

    die_with_parent()
    stopping = StopRequest().install()
    from cai_bootstrap.cli.options import folder_of
    from cai_bootstrap.config import resolve
    from cai_bootstrap.errors import CaiError, InterruptedRunError
    from cai_bootstrap.events import Error, EventLog, Progress, StepSkipped
    from cai_bootstrap.inference.memory import lacks_memory
    from cai_bootstrap.run.lock import hold

    # The file is complete; what the parent's environment set is in it already.
    config = resolve(config_file=config_file, environment={}).config
    workspace = folder_of(config)
    log = EventLog(workspace.events(run_id), run_id)
    try:
        from cai_bootstrap.steps.context import StepContext
        from cai_bootstrap.steps.run import run_step

        with hold(workspace, f"step {name} of run {run_id}", name="step"):
            if not run_step(name, StepContext(config, workspace, Progress(log, name), stopping, run_id, round_number)):
                log.emit(StepSkipped(step=name))
        return 0
    except InterruptedRunError as error:
        log.emit(Error(step=name, message=str(error)))
        return stopping.exit_code
    except CaiError as error:
        log.emit(Error(step=name, message=str(error), out_of_memory=lacks_memory(error) or None))
        return error.exit_code
    except OSError as error:
        traceback.print_exc()
        place = error.filename or workspace.base
        message = f"{place}: {error.strerror}; free some space or mend it, and start again"
        log.emit(Error(step=name, message=message))
        return 1
    except Exception as error:
        traceback.print_exc()
        sys.stderr.flush()
        output = workspace.step_log(run_id, name, round_number)
        message = f"the step '{name}' failed: {type(error).__name__}: {error} ({output} has more)"
        log.emit(Error(step=name, message=message, out_of_memory=lacks_memory(error) or None))
        return 1
