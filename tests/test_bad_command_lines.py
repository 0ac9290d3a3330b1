"""What users mistype: each line is refused with one sentence and exit code 2, and nothing is written.

The lines run in this process, through the `main` of their command; a few of each kind run as real processes too.
"""

import importlib
import re
import shlex
import subprocess
import sys

import pytest

from pipeline.__main__ import COMMANDS
from pipeline.launch.commands import refusing
from pipeline.launch.yaml_size import check_size
from pipeline.values import UserError

NUMBERS = {  # key -> numbers out of its bounds
    **{
        f"trainer.{key}": ["0", "-1", "nan", "1e30", "many"]
        for key in (
            "steps",
            "batch_size",
            "log_every",
            "checkpoint_every",
            "forward_tokens",
            "devices",
            "validate_every",
        )
    },
    **{f"trainer.{key}": ["-1", "nan", "inf", "many"] for key in ("learning_rate", "temperature", "weight_decay")},
    **{f"trainer.{key}": ["-0.1", "1.1", "nan", "inf"] for key in ("warmup_fraction", "dropout", "holdout_fraction")},
    **{
        f"trainer.{key}": ["[0]", "[-1]", "[nan]", "[1e30]", "3", "null"]
        for key in ("matryoshka_widths", "exit_layers")
    },
    **{f"trainer.{key}": ["-1", "100000", "nan"] for key in ("hard_negatives", "lora_rank")},
    "trainer.patience": ["0", "-1", "nan"],
    **{f"profile.{key}": ["-1", "nan", "inf"] for key in ("min_calls", "min_seconds", "energy_seconds", "rounds")},
    "profile.index_rows": ["0", "1e30", "null"],
    "profile.intensity_g_per_kwh": ["-1", "nan", "inf"],
    "profile.token_budgets": ["[]", "[0]", "[nan]", "many"],
    "model.layers": ["0", "-1", "nan", "100000", "all"],
    **{
        f"model=e5-small-d2 model.distill.{key}": ["0", "nan", "many"]
        for key in ("steps", "batch_size", "learning_rate")
    },
    "model.max_query_tokens": ["0", "-1", "inf"],
    "model.max_passage_tokens": ["0", "-1", "10000000"],
    "model.architecture.hidden_size": ["-1", "nan", "1e30"],
    "seed": ["-1", "nan", "4294967296", "first", "null"],
    "threads": ["0", "-1", "nan", "100000", "null"],
    "time_limit_min": ["0", "-1", "nan", "inf", "soon"],
    "sampler.alpha": ["-0.1", "1.1", "nan", "inf", "often", "null"],
    "sampler.size_exponent": ["-1", "2", "nan"],
}
RUN = [f"{key}={value}" for key, values in NUMBERS.items() for value in values]
WRONG_LIST = [
    "model.kept_layers=middle", "model.distill=3", "model.distill={}", "model.static={width: 3}",
    "model.distill.steps=3", "distill=default",
    "model=e5-small-d2 model.distill.loss=cosine", "model=e5-small-d2 model.distill.sides=[title]",
    "model=e5-small-d2 model.distill.sides=[]", "model=e5-small-d2 model.distill.lines=nowhere",
    "model=e5-small-d2 model.distill.step=3", "variants.grids=[{query_encoder:[nowhere]}]",
    "variants.grids=[{query_encoder:[../x]}]", "variants.grids=[{query_encoder:here}]",
    "variants.grids=[{width:[0]}]", "variants.grids=[{width:[nan]}]", "variants.grids=[{max_passage_tokens:[-1]}]",
    "variants.grids=[{backend:[onxx]}]", "variants.grids=[{precision:[int4]}]", "variants.grids=[{size:[1]}]",
    "variants.grids=3", "variants.grids=[3]", "metrics=[map,ncdg_10]", "metrics=map", "metrics=[ndcg_0]",
    "metrics=null",
    "metrics.map=null", "metrics=[map_-1]", "metrics=[[map]]", "metrics=[]",
]  # fmt: skip
MISSPELT = [
    "model=e5-smal", "sampler=hybird", "data=wordlfacts", "eval=mircal", "trainer=fast", "profile=of", "variants=gird",
    "tracking=wb", "launcher=slrum", "modle=e5-small", "trainer.step=3", "+trainer.step=3", "++trainer.step=3",
    "profile.min_call=3", "+sampler.beta=1", "sampler.beta=1", "data.language=[en]", "eval.worldfacts.language=[en]",
    "model.pooling=middle", "model.precision=int8", "model.precision=auto", "trainer.precision=float16", "device=gpu",
    "device=null", "model.lairs=3", "tracking.wand=false", "results=here", "sampler.schedule=square", "threads.x=1",
    "trainer.grad_cache=perhaps", "profile.enabled=perhaps", "profile.country=Germany", "profile.country=us",
    "sampler.languages_by=triple", "eval=[worldfacts,xquad]", "model=../e5-small", "model=conf/model/e5-small.yaml",
]  # fmt: skip
MISSING = [
    "data=null", "sampler=null", "eval=null", "model=null", "trainer=null", "profile=null", "variants=null",
    "tracking=null",
    "~data", "~sampler", "~eval", "~model", "~trainer", "~profile", "~metrics", "~sweep", "~results_dir",
    "~nothing",
    "eval.worldfacts=null", "~eval.worldfacts", "eval.worldfacts.languages=null", "~eval.worldfacts.languages",
    "data.languages=null", "~data.languages", "data.languages=en", "data.languages={}", "model.weights=null",
    "model=hub", "eval=none", "data=parallel", "eval=ir_datasets", "results_dir=null", "sweep=null", "data={}",
    "sampler={}",
    "sampler=[]", "data=3", "eval.worldfacts=3", "model.family=null", "trainer.steps=null", "variants.grids=null",
]  # fmt: skip
GRAMMAR = [
    "hybrid", "=3", "trainer.steps", "trainer.steps=[", "trainer.steps={", "trainer.steps='3", "+=3", "~", "+", "++",
    "a b=3",
    "trainer..steps=3", "sampler.alpha=${nothing}", "sampler.alpha=${oc.env:NO_SUCH_VARIABLE}", "sampler.alpha=${",
    "sampler.alpha=${seed", "results_dir=${sweep}${", "seed=choice(0,1)", "seed=range(0,3)", "seed=0,1",
    "model=e5-small,e5-base",
    "sampler.alpha=interval(0,1)", "seed=shuffle(1)", "seed=int(x)", "--no-such-flag", "--config-name", "-x",
    "--config-name=nothing", "--config-dir=nowhere", "--config-path=conf", "--experimental-rerun=config.pickle",
    "--config-name=report", "seed=${seed}",
]  # fmt: skip
NAMES = [
    *(f"sweep={name}" for name in (
        "''", "../up", "..", ".", "a/b", "/tmp/x", "runs", "stages", "locks", "wandb", "profiles-cli",
        "x" * 101, "é" * 51, "-a",
        ".hidden", "'a b'", "'$x$'", "2026_11_28", "1_000", "'~'", "[a]", "{a:1}", "'a:b'", "'a*'", "'=1'",
    )),
    "costs_from=../up", "costs_from=runs", "costs_from=adhoc", "costs_from=''", "+eval.a/b=1", "costs_from=1_0",
]  # fmt: skip
FOREIGN = [
    "data._target_=evil.x", "sampler._target_=evil.x", "eval.worldfacts._target_=evil.x", "data._target_=os.system",
    "data._target_=evil", "data._target_=''", "data._target_=null", "data._target_=[evil.x]",
    "data._target_=builtins.eval",
    "data._target_=pipeline.store.files.os.system", "data._target_=pipeline.data.tables.Path",
    "data._target_=pipeline.data.worldfacts.benchmark", "eval.worldfacts._target_=pipeline.data.worldfacts.train",
    "sampler._target_=pipeline.sampling.strategy.Corpus", "data._target_=pipeline.data.nothing.train",
    "data._target_=pipeline.data.worldfacts.nothing", "data._target_=pipeline.config.instantiate",
    "+data._partial_=true", "+data._args_=[1]", "+sampler._recursive_=true", "data._target_=${oc.decode:evil.x}",
    "allow_targets=evil", "allow_targets=[evil] data._target_=nosuch.x",
    "allow_targets=[nosuch] data._target_=nosuch.x",
    "hydra.searchpath=[pkg://evil]", "hydra.searchpath=[pkg:evil]", "hydra.searchpath=pkg://evil",
    "+hydra.callbacks.e._target_=evil.x", "+hydra.callbacks.e={_target_:evil.x}", "hydra.callbacks=null",
    "~hydra.callbacks",
    "hydra.callbacks.sweep._target_=evil.x", "hydra.launcher._target_=evil.x", "hydra.sweeper._target_=evil.x",
    "+hydra.job_logging.handlers.e.class=evil.X", "hydra/job_logging=default", "hydra/hydra_logging=default",
    "+hydra.job.env_set.PYTHONPATH=elsewhere", "hydra.job.chdir=true", "hydra.output_subdir=here",
    "hydra.run.dir=elsewhere",
    "hydra.sweep.dir=elsewhere", "hydra.launcher={_target_:evil.x}", "hydra.job.env_copy=[HOME]",
]  # fmt: skip
MANY = [  # multiruns
    "-m seed=0,-1", "-m trainer.steps=1,nan", "-m sampler.alpha=0.5,1.5", "-m model=e5-small,e5-smal",
    "-m seed=0,1 sweep=../x",
    "-m seed=0,1 sweep=runs", "-m seed=0,1 costs_from=nowhere", "-m seed=0,1 hydra.launcher._target_=evil.x",
    "-m sampler._target_=evil.x,evil.y", "-m trainer.steps=", "-m seed=0,1 launcher=joblib hydra.launcher.n_job=2",
    "-m metrics=[map],[mapp]", "-m hydra.sweeper.params={hydra.job.chdir:true}", "-m seed=0,1 sweep=1_0",
    "-m '+hydra.sweeper.params={allow_targets:[[evil]]}'", "-m data=worldfacts,null",
]  # fmt: skip
OTHERS = {
    "report": [
        "", "nowhere", "../up", "a/b", "sweep=''", "sweep=runs", "sweep=null", "nowhere prices=dear",
        "nowhere prices=null",
        "nowhere scenario=null", "nowhere prices.usd_per_kwh=-1", "nowhere prices.usd_per_kwh=nan", "nowhere price=3",
        "nowhere prices.usd_per_instance_hour=inf", "nowhere prices.g_co2_per_kwh=-1",
        "nowhere prices.usd_per_gb_month=1e30",
        "nowhere scenario.utilisation=0", "nowhere scenario.utilisation=2", "nowhere scenario.utilisation=nan",
        "nowhere scenario.queries_per_day=-1", "nowhere scenario.queries_per_day=inf",
        "nowhere scenario.corpus_passages=-1",
        "nowhere scenario.corpus_passages=many", "nowhere scenario.reencodes_per_year=nan", "nowhere results_dir=null",
        "nowhere panels=x", "nowhere results_dir=../no/such", "nowhere +hydra.callbacks.e._target_=evil.x",
        "nowhere and more",
        "sweep=1_0", "nowhere hydra.searchpath=[pkg://evil]", "nowhere scenario={}", "nowhere prices=[]",
    ],
    "recommend": [
        "", "nowhere", "../up", "nowhere p95_ms=-1", "nowhere p95_ms=nan", "nowhere p95_ms=inf", "nowhere p95_ms=fast",
        "nowhere memory_mib=-1", "nowhere gpu_memory_mib=nan", "nowhere joules_per_1k=inf", "nowhere index_bytes=-1",
        "nowhere usd_per_million=nan", "nowhere usd_per_month=1e30", "nowhere end_to_end_p95_ms=-1", "nowhere p95=3",
        "nowhere prices=dear", "nowhere scenario.utilisation=2", "sweep=locks", "nowhere accuracy=[x]",
    ],
    "search": [
        "trials=0", "trials=-1", "trials=nan", "trials=1e30", "population=1", "population=nan", "seed=-1", "seed=inf",
        "sweep=../up", "sweep=runs", "minimise=[]", "minimise=[latency]", "maximise=[map]", "maximise=[]", "run=[]",
        "run=null",
        "run=[seed=0]", "run=[trainer.steps=0,1]", "run=['sampler.alpha=interval(1,0)']",
        "run=['seed=0,1','profile=off']",
        "run=['hydra.searchpath=[pkg://evil]','seed=0,1']", "run=['allow_targets=[evil]','seed=0,1']", "trails=3",
        "run=['data._target_=evil.x,evil.y']", "run=['model=a,b']", "run=['seed=0,1','trainer.step=3']",
        "results_dir=null",
    ],
    "status": ["", "nowhere", "..", "a/b", "sweep=", "--no-such-flag", "nowhere x=3", "nowhere more", "=",
    "nowhere results=x"],
    "archive": [
        "", "nowhere", "nowhere to", "nowhere to=", "nowhere to=here", "../up to=here", "sweep= to=here",
        "sweep=runs to=here", "nowhere into=here", "nowhere to=here more", "-x",
    ],
    "export": ["", "nothing", "../runs/x", "run=", "nothing to", "nothing too=x", "-x", "/etc"],
    "serve": [
        "", "nothing", "run=null", "../runs/x", "./nowhere", "nothing port=-1", "nothing port=65536",
        "nothing port=http", "nothing device=tpu", "nothing device=auto", "nothing threads=0", "nothing max_batch=0",
        "nothing max_wait_ms=-1",
        "nothing max_wait_ms=nan", "nothing queue=0", "nothing max_inputs=0", "nothing max_body_kib=inf",
        "nothing token_budget=0", "nothing ports=1", "nothing more", "nothing host=null", "nothing results_dir=null",
        "nothing host=256.0.0.1 port=0", "nothing hydra.launcher._target_=evil.x", "it's", "-x",
    ],
    "load": [
        "", "nothing", "run=null", "../runs/x", "./nowhere", "nothing sweep=nowhere", "sweep=nowhere", "sweep=../up",
        "nothing target=http://127.0.0.1:9", "target=http://127.0.0.1:9", "target=nonsense eval=worldfacts",
        "target=http://127.0.0.1:9 eval=worldfacts", "target=http://[ eval=worldfacts", "nothing p99_ms=0",
        "nothing p99_ms=nan", "nothing min_seconds=0", "nothing min_queries=0", "nothing tolerance=0",
        "nothing tolerance=2", "nothing rounds=0", "nothing index_rows=-1", "nothing device=tpu", "nothing threads=0",
        "nothing max_batch=0", "nothing queue=0", "nothing seed=-1", "nothing more", "nothing results_dir=null",
        "target=http://127.0.0.1:9 eval={b:{_target_:evil.x}}", "nothing hydra.launcher._target_=evil.x", "-x",
        "target=http://127.0.0.1:9 eval=worldfacts eval.worldfacts.languages=[xx]", "eval=nothing", "it's",
    ],
    "published": ["", "nowhere", "nowhere scores=nowhere", "../up scores=.", "nowhere score=x", "nowhere prices=x",
    "-x"],
    "sync": ["", "nowhere", "results_dir=", "nowhere now", "-x"],
    "profile_model": [
        "weights=packaged", "device=tpu", "precision=int8", "threads=0", "seed=-1", "profile.rounds=nan",
        "model=e5-smal",
        "model.max_query_tokens=null", "profile.token_budgets=[]", "profile.token_budgets=[0]", "texts.en.query=[-1]",
        "hydra.launcher._target_=evil.x", "profile=of",
    ],
}  # fmt: skip
YAMLS = {  # of --config-dir: a multirun's config that is not one
    "a duplicate key": "seed: 0\nseed: 1\n",
    "an open bracket": "metrics: [map\n",
    "an open quote": 'sweep: "mine\n',
    "a tab": "trainer:\n\tsteps: 3\n",
    "two documents": "seed: 0\n---\nseed: 1\n",
    "an unknown tag": "seed: !!python/object/apply:os.system ['touch WRITTEN']\n",
    "an unknown anchor": "seed: *nothing\n",
    "a list": "- seed\n- 0\n",
    "a word": "seed\n",
    "a number": "3\n",
    "a null": "data: null\n",
    "a null in the trainer": "trainer: {steps: null}\n",
    "a nan": "trainer: {temperature: .nan}\n",
    "an infinity": "time_limit_min: .inf\n",
    "an unknown key": "trainer: {step: 3}\n",
    "no such default": "defaults: [config, nothing]\n",
    "itself": "defaults: [config, mine]\n",
    "defaults that are no list": "defaults: config\n",
    "defaults with a number": "defaults: [config, 3]\n",
    "no defaults": "defaults: []\nseed: 0\n",
    "a name that leads elsewhere": "sweep: ../up\n",
    "a foreign target": "data: {_target_: evil.x}\n",
    "a foreign target in disguise": "data: ${oc.decode:'{_target_:evil.x}'}\n",
    "allowed packages": "allow_targets: [evil]\ndata: {_target_: evil.x}\n",
    "a callback": "hydra: {callbacks: {e: {_target_: evil.x}}}\n",
    "no callback": "hydra: {callbacks: null}\n",
    "a launcher": "hydra: {launcher: {_target_: evil.x}}\n",
    "a launcher's commands": "hydra: {launcher: {setup: [touch WRITTEN]}}\n",
    "a sweeper": "hydra: {sweeper: {_target_: evil.x}}\n",
    "a log handler": "hydra: {job_logging: {handlers: {e: {class: evil.X}}}}\n",
    "a log file": "hydra: {job_logging: {handlers: {f: {class: logging.FileHandler, filename: WRITTEN}}}}\n",
    "a search path": "hydra: {searchpath: ['pkg://evil']}\n",
    "variables": "hydra: {job: {env_set: {PYTHONPATH: elsewhere}}}\n",
    "another folder": "hydra: {sweep: {dir: elsewhere}}\n",
    "a swept target": "hydra: {mode: MULTIRUN, sweeper: {params: {sampler._target_: 'evil.x,evil.y'}}}\n",
    "swept packages": "hydra: {mode: MULTIRUN, sweeper: {params: {allow_targets: '[evil]', data._target_: evil.x}}}\n",
    "a swept log handler": "hydra: {mode: MULTIRUN, sweeper: {params: {hydra.job_logging: '{x: 1}', seed: '0,1'}}}\n",
    "a swept number": "hydra: {mode: MULTIRUN, sweeper: {params: {threads: '1,-1'}}}\n",
    "a mode": "hydra: {mode: SOMETIMES}\n",
    "parameters that are a list": "hydra: {mode: MULTIRUN, sweeper: {params: [seed]}}\n",
}
SHEET = {"name": "a rack", "source": "an invoice", "date": '"2026"', "usd_per_instance_hour": "0.1", "usd_per_kwh": "0"}
SHEET |= {"usd_per_gb_month": "0.1", "g_co2_per_kwh": "400"}
LOAD = {"corpus_passages": "1000", "queries_per_day": "10", "reencodes_per_year": "4", "utilisation": "0.5"}
GROUPS = {"prices": (SHEET, "usd_per_kwh"), "scenario": (LOAD, "queries_per_day")}  # a sound yaml, and a number in it
BAD_NUMBERS = {
    "nan": ".nan", "infinite": ".inf", "negative": "-1", "huge": "1e300", "digits": "1" * 5000, "a word": "many",
    "a list": "[1]", "a mapping": "{a: 1}", "null": "null", "blank": "", "a date": "2026-01-01", "missing": "???",
    "unknown": "${nothing}", "itself": "${.KEY}", "a target": "{_target_: evil.x}", "a tag": "!!python/name:os.system",
    "deep": "[" * 3000, "deep and closed": "[" * 30 + "]" * 30, "decoded": "${oc.decode:'{_target_:evil.x}'}",
}  # fmt: skip
BAD_SHEETS = {
    "empty": b"", "a number": b"3\n", "a list": b"- 1\n", "a text": b"cheap\n", "zeros": bytes(100),
    "noise": bytes(range(256)), "UTF-16": "name: \u00fc\n".encode("utf-16"), "Latin-1": b"name: \xfc\n",
    "two documents": b"name: a\n---\nname: b\n", "a tab": b"\tname: a\n", "an open quote": b'name: "a\n',
    "deep": b"{a: " * 3000, "json": b'{"data": [["x"]]}', "csv": b"model,price\na,3\n", "folder": None,
    "another place": b"# @package hydra.job\nname: evil\n", "a default": b"defaults: [nothing]\n",
    "itself": b"defaults: [own]\n", "packages": b"allow_targets: [evil]\n",
}  # fmt: skip
MODULES = {name: importlib.import_module(f"pipeline.{name or '__main__'}") for name in ("", *COMMANDS)}
LINES = [("run", line) for line in [*RUN, *WRONG_LIST, *MISSPELT, *MISSING, *GRAMMAR, *NAMES, *FOREIGN, *MANY]]
LINES += [(command, line) for command, lines in OTHERS.items() for line in lines]
LINES += [("", word) for word in ("reprot", "runs", "Run", "-x", "run.py", "''")]  # python -m pipeline WORD


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An empty folder, but for a module that tells when it is imported."""
    folder = tmp_path_factory.mktemp("here")
    (folder / "evil.py").write_text("open('WRITTEN', 'w').close()\n", encoding="utf-8")
    return folder


@pytest.fixture
def refused(folder, monkeypatch, capsys):
    """Run a command line in this process and return its sentence."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delenv("PUBLISHED_DIR", raising=False)
    for work in ("pipeline.launch.runs.attempt", "pipeline.profiling.architectures.profile"):
        monkeypatch.setattr(work, None)  # a line that is accepted fails at once
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # as commands.refusing does, so that it is undone

    def run(command, *words):
        monkeypatch.setattr(sys, "argv", [command, *words])
        with pytest.raises(SystemExit) as ended, refusing():
            MODULES[command].main(*([] if command else [list(words)]))
        written = [path for path in folder.rglob("*") if path.is_file() and path.name != "evil.py"]
        out, err = capsys.readouterr()
        assert (ended.value.code, out, written) == (2, "", [])
        (line,) = err.splitlines()
        return line

    return run


def words(line):
    return shlex.split(line) if " " in line else [line] if line else []


@pytest.mark.parametrize(("command", "line"), LINES, ids=lambda value: value)
def test_a_bad_line_is_one_sentence(refused, command, line):
    assert re.fullmatch(r"error: \S.{10,1500}", refused(command, *words(line)))


@pytest.mark.parametrize("kind", YAMLS)
def test_a_bad_yaml_is_one_sentence(refused, tmp_path, kind):
    text = YAMLS[kind]
    if text[0].islower() and "defaults" not in text:
        text = f"defaults: [config, _self_]\n{text}"
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    line = refused("run", "--config-dir", str(tmp_path), "--config-name", "mine", "seed=0")
    assert re.fullmatch(r"error: \S.{10,1500}", line)


LAUGHS = "a0: &a0 [1, 1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 25))
SIZES = {
    "billions of values": (LAUGHS, "stands for more than 10,000 values, its aliases written out."),
    "nested": ("sweep: " + "[" * 60 + "]" * 60 + "\n", "is nested more than 50 deep, or contains itself."),
    "nested far": ("sweep: " + "[" * 100_000 + "]" * 100_000 + "\n", "is nested more than 50 deep."),
    "in itself": ("sweep: &a [*a]\n", "is nested more than 50 deep, or contains itself."),
}


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("file", ["mine.yaml", "prices/own.yaml"])
def test_a_yaml_that_stands_for_too_much_is_not_composed(refused, tmp_path, kind, file):
    """OmegaConf writes every alias out: a billion values from 25 lines. It would not end."""
    text, sentence = SIZES[kind]
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"defaults: [config, _self_]\n{text}" if file == "mine.yaml" else text, encoding="utf-8")
    chosen = ["run", "--config-name", "mine"] if file == "mine.yaml" else ["recommend", "sweep=x", "prices=own"]
    assert refused(*chosen, "--config-dir", str(tmp_path)) == f"error: {path} {sentence}"


def test_an_alias_may_repeat_what_is_small(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("a: &a [1, 2]\nb: [*a, *a]\n", encoding="utf-8")
    check_size(path)
    path.write_text("a: &a [1, 2]\nb: [" + "*a, " * 3_400 + "]\n", encoding="utf-8")  # 3 values each
    with pytest.raises(UserError, match="more than 10,000 values"):
        check_size(path)


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.slow
def test_a_bad_sheet_is_one_sentence(refused, tmp_path, group):
    """Each key that is missing or unknown, each bad number, each content that is no sheet."""
    sound, key = GROUPS[group]
    texts = {f"without {name}": {k: v for k, v in sound.items() if k != name} for name in sound}
    texts["another key"] = sound | {"usd_per_gbmonth": "1"}
    texts |= {kind: sound | {key: value.replace("KEY", key)} for kind, value in BAD_NUMBERS.items()}
    sheets = {kind: "".join(f"{k}: {v}\n" for k, v in sheet.items()).encode() for kind, sheet in texts.items()}
    (tmp_path / group).mkdir()
    own = tmp_path / group / "own.yaml"
    own.write_bytes("".join(f"{k}: {v}\n" for k, v in sound.items()).encode())
    arguments = ["sweep=nowhere", f"{group}=own", "--config-dir", str(tmp_path)]
    assert "no sweep nowhere" in refused("recommend", *arguments)
    if group == "prices":
        sheets |= {f"{kind}, alone": content for kind, content in BAD_SHEETS.items()}
    for kind, content in sheets.items():
        own.unlink()
        own.mkdir() if content is None else own.write_bytes(content)
        line = refused("recommend", *arguments)
        assert re.fullmatch(r"error: \S.{10,1500}", line), (kind, line)
        assert "no sweep" not in line, kind
        if content is None:
            own.rmdir()
            own.touch()


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_yaml_that_is_not_utf_8_is_named(refused, tmp_path, encoding):
    (tmp_path / "mine.yaml").write_text("defaults: [config, _self_]\nsweep: é\n", encoding=encoding)
    assert "mine.yaml" in refused("run", "--config-dir", str(tmp_path), "--config-name", "mine")


def test_there_are_enough_lines():
    assert len({*LINES}) == len(LINES) == 580  # as docs/faults.md says


REAL = [
    "seed=nan",
    "data._target_=evil.x",
    "-m seed=0,1 hydra.launcher._target_=evil.x",
    "sweep=../up",
    "~eval.worldfacts",
]


@pytest.mark.parametrize("line", REAL)
def test_a_process_says_the_same(refused, folder, line):
    arguments = words(line)
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline.run", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", f"{refused('run', *arguments)}\n")
