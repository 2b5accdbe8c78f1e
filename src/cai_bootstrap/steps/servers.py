"""The servers of a run: who generates and who judges at an address, and what of that is refused before it begins."""

import re
from collections.abc import Sequence
from pathlib import Path

from cai_bootstrap.config import RunConfig, Step
from cai_bootstrap.errors import UsageError
from cai_bootstrap.inference.completions import CompletionsServer, ListedModel
from cai_bootstrap.inference.server_log import ServerLog, served_model
from cai_bootstrap.run.counts import GenerationSummary, read_counts
from cai_bootstrap.run.folder import DataFolder, RunFolder
from cai_bootstrap.servers import ModelServer, ServedModel, environment_key, same_address
from cai_bootstrap.steps.context import StepContext

FIRST_TRIES = 3  # before a step begins somebody still watches: a server that is down is to be said within seconds
# Endings of a served model's name that say in which form or precision it is served.
_FORM = re.compile(
    r"(?:[-_.](?:gguf|mlx|onnx|safetensors|bnb|gptq|awq|dynamic|quantized|hf|b?f16|fp?16|fp?32|fp?8|u?int\d|w\d+a\d+|"
    r"\d[-_]?bits?|i?q\d(?:_[a-z0-9]+)*))+$"
)

_SIZE = re.compile(r"\d[bm]\b")


def check_servers(config: RunConfig) -> None:
    """Refuse what cannot be meant, before a step is started. Raises UsageError; asks no server anything."""
    server, judge = config.server, config.judge
    if config.engine != "openai" and server != ModelServer():
        raise UsageError("--endpoint (server.…) is read with --engine openai alone: add that, or leave it out")
    if config.engine == "openai":
        if server.endpoint is None:
            raise UsageError("--engine openai needs the server's address: --endpoint http://HOST:PORT")
        if server.precision is None:
            raise UsageError(
                "--engine openai: nobody can see from outside in which precision a server holds its weights, so "
                "declare it, as you started the server: --set server.precision=bf16"
            )
        if config.start_from is not None:
            raise UsageError(
                "--engine openai: a server answers as the untrained base, and --from goes on from an adapter; leave "
                "one of them out"
            )
    if judge == ModelServer():
        return
    if config.stage != "constitution":
        raise UsageError("--judge judges in the constitution stage: add --stage constitution, or leave it out")
    if judge.endpoint is None or judge.model is None:
        raise UsageError("a judge at an address needs both --judge http://HOST:PORT and --judge-model NAME")
    one = server.endpoint is not None and same_address(judge.endpoint, server.endpoint)
    if config.engine == "openai" and one and server.model is None:
        raise UsageError(
            "--judge and --endpoint are one server: say which of its models is the base, --set server.model=NAME, so "
            "that it does not judge itself"
        )
    _refuse_own_judge({config.model, server.model or ""}, judge.model)


def ask_servers(config: RunConfig, workspace: RunFolder, steps: Sequence[Step]) -> None:
    """Look up the keys of the servers that these steps still need, and ask each for its models, before a step begins.

    Raises UsageError for a key that is not there, a model that is not served, and a judge that is the model which
    generates; EngineError for a server that does not answer.
    """
    servers: dict[str, ModelServer] = {}
    waiting = {step for step in steps if not workspace.marker(step).exists()}
    if config.engine == "openai" and "generate" in steps and ("generate" in waiting or config.force_data):
        servers["--endpoint"] = config.server
    if config.judge.endpoint is not None and waiting & {"baseline", "evaluate"}:
        servers["--judge"] = config.judge
    for server in servers.values():
        if server.api_key_env is not None:
            environment_key(server.api_key_env, server.endpoint or "the server")
    listed = {option: _listed(server, option, workspace) for option, server in servers.items()}
    if len(listed) == 2:
        for name in listed["--judge"].names:
            _refuse_own_judge(set(listed["--endpoint"].names), name)


def _listed(server: ModelServer, option: str, workspace: RunFolder) -> ListedModel:
    """A served model as its server lists it now; a server that does not answer is soon given up."""
    log = ServerLog(workspace.round_data(1).server_answers, read=False)
    return CompletionsServer(server, log, option, tries=FIRST_TRIES).listed


def generating_server(context: StepContext, data: DataFolder) -> CompletionsServer | None:
    """The server that answers as the base while these data are made; None where a model in this process does.

    What needs an adapter, as rounds after the first do, stays in this process. Raises UsageError if another served
    model began these data.
    """
    config = context.config
    if config.engine != "openai":
        return None
    if context.round > 1:
        context.progress.say("the trained model answers in this process: a server has no adapter of this run")
        return None
    check_servers(config)
    server = CompletionsServer(config.server, ServerLog(data.server_answers), "--endpoint")
    server.must_go_on()
    return server


def judging_server(context: StepContext) -> CompletionsServer | None:
    """The judge at an address; None if the run has none. Raises UsageError if it is the model that is trained."""
    config = context.config
    if config.judge.endpoint is None:
        return None
    check_servers(config)
    log = ServerLog(context.workspace.round_data(1).judge_answers)
    judge = CompletionsServer(config.judge, log, "--judge")
    _refuse_trained(context, judge)
    return judge


def forget_judge(config: RunConfig, data: DataFolder) -> None:
    """Remove what the judge at an address answered: it is asked anew where a measurement is made again."""
    if config.judge.endpoint is not None:
        data.judge_answers.unlink(missing_ok=True)


def judge_key(config: RunConfig) -> list[object]:
    """What a fingerprint holds of a judge at an address: nothing where there is none."""
    judge = config.judge
    return [] if judge.endpoint is None else [["judge", judge.endpoint, judge.model, judge.precision]]


def generated_by(data: DataFolder) -> ServedModel | None:
    """The server that wrote the texts of finished data, with what it was asked; None if none did."""
    return read_counts(data.summary, GenerationSummary).served_by if data.summary.exists() else None


def served_counts(server: CompletionsServer | None) -> dict[str, ServedModel]:
    """What a summary of the data says of the server that wrote their texts; nothing where none did."""
    served = asked_of(server)
    return {} if served is None else {"served_by": served}


def answering_key(context: StepContext) -> tuple[list[str], str]:
    """What decides who answers in this round's data: the base's hashes, with the served model's name, and a precision.

    Of a server both are declared, so its data are never gone on with as this process's, nor the other way round.
    """
    config, model = context.config, context.model_key()
    if config.engine != "openai" or context.round > 1:
        return model, config.generation_precision
    return [*model, f"served as {config.server.model or 'its only model'}"], f"{config.server.precision}, declared"


def asked_of(server: CompletionsServer | None) -> ServedModel | None:
    """What was asked of a server so far; None if nothing was."""
    return None if server is None else served_model(server.log.path, server.declared, server.model, server.listed.root)


def _refuse_trained(context: StepContext, judge: CompletionsServer) -> None:
    """Refuse a judge that is the base or has grown out of it in this run, by all that its server says of it."""
    prepared, listed = context.prepared(), judge.listed
    root = Path(listed.root).expanduser().resolve() if listed.root else None
    start = context.config.start_from
    adapters = [context.workspace.checkpoints, *([] if start is None else [RunFolder.at(start).checkpoints])]
    if root is not None and (
        root == prepared.path.resolve() or any(root.is_relative_to(folder.resolve()) for folder in adapters)
    ):
        raise _own(str(listed.root))
    own = {context.config.model, prepared.name, context.config.server.model or "", *_generating(context)}
    for name in listed.names:
        _refuse_own_judge(own, name)


def _generating(context: StepContext) -> tuple[str, ...]:
    """What the model is called that generates at an address: as recorded of finished data, else as its server says."""
    config, data = context.config, context.workspace.round_data(1)
    if data.summary.exists():
        served = generated_by(data)
        return () if served is None else (served.model,)
    if config.engine != "openai" or config.adapter is not None:
        return ()
    return _listed(config.server, "--endpoint", context.workspace).names


def _refuse_own_judge(own: set[str], judge: str) -> None:
    if _short(judge) and _short(judge) in {_short(name) for name in own}:
        raise _own(judge)


def _own(judge: str) -> UsageError:
    return UsageError(
        f"--judge-model {judge}: this is the model that is trained, or its base, and nobody judges himself; name "
        "another model, or leave --judge out: then the untrained base judges in this process, if it agrees with people"
    )


def _short(name: str) -> str:
    """A model's name without its owner, folder, tag and form: of `google/Gemma-3-270M:Q8_0` it is `gemma-3-270m`.

    A tag with a size stays, since it names another model: `gemma3:27b` is `gemma3-27b`.
    """
    head, _, tag = name.rstrip("/").rsplit("/", 1)[-1].lower().partition(":")
    return _FORM.sub("", f"{head}-{tag}" if _SIZE.search(tag) else head)
