"""Job descriptions become JobSpecs, or an error that names the place; and back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.pilot.model.errors import InvalidJobError, PilotfishError
from pilotfish.pilot.model.job_spec import (
    ONE_CORE,
    Dependency,
    Execution,
    Iteration,
    IterationScheduler,
    JobSpec,
    Need,
    Resources,
    Size,
)
from pilotfish.pilot.model.steps import SLICE, Steps
from pilotfish.pilot.wire.describe import describe_in_steps, describe_jobs, undescribe
from pilotfish.pilot.wire.legacy import wire_message

VARIABLES = {"rcnt": "3", "uniq": "u-1", "sname": "local", "date": "D", "dateTime": "D", "time": "00:00:00"}
MIB = 1 << 20


def job(**members: Any) -> dict[str, Any]:
    return {"name": "j", "execution": {"exec": "/bin/true"}, **members}


def described(variables: dict[str, str] | None = None, **members: Any) -> JobSpec:
    (spec,) = describe_jobs([job(**members)], variables)
    return spec


def error_of(**members: Any) -> str:
    """What the client of a submit with this as its only job is told."""
    with pytest.raises(PilotfishError) as caught:
        describe_jobs([job(**members)], None)
    return wire_message(caught.value)


# --- the whole ----------------------------------------------------------------------------------------------------------


def test_a_plain_job_has_one_core() -> None:
    assert described() == JobSpec("j", Execution(exec="/bin/true"), Resources(ONE_CORE))


def test_every_member() -> None:
    spec = described(
        execution={
            "exec": "prog",
            "args": ["a", 1, 2.5, True, None],
            "env": {"A": "1"},
            "wd": "w",
            "stdin": "i",
            "stdout": "o",
            "stderr": "e",
            "modules": "gcc",
            "venv": "v",
            "model": "OpenMPI",
            "model_opts": {"mpirun": "/opt/mpirun", "mpirun_args": ["-x"]},
        },
        resources={"numNodes": 2, "numCores": {"min": 2, "max": 4}, "wt": "1h", "nodeCrs": {"GPU": 1, "mem": 10}},
        iteration={"start": 2, "stop": 5},
        dependencies={"after": ["a", "b:-3", "c:${it}"]},
        attributes={"mine": [1]},
        priority=-5,
        retries=2,
    )
    assert spec == JobSpec(
        "j",
        Execution(
            exec="prog",
            args=("a", "1", "2.5", "True", "None"),
            env={"A": "1"},
            wd="w",
            stdin="i",
            stdout="o",
            stderr="e",
            modules=("gcc",),
            venv="v",
            model="openmpi",
            model_opts={"mpirun": "/opt/mpirun", "mpirun_args": ["-x"]},
        ),
        Resources(Need(Size(2, 4), Size(2, 2), 1, 10 * MIB), 3600.0),
        Iteration(2, 5),
        (Dependency("a"), Dependency("b", index=-3), Dependency("c", same_index=True)),
        {"mine": [1]},
        -5,
        2,
    )


def test_null_is_as_absent() -> None:
    execution: dict[str, Any] = {
        "exec": "x",
        "args": None,
        "env": None,
        "wd": None,
        "modules": None,
        "model": None,
        "model_opts": None,
    }
    members = {"dependencies": None, "attributes": None}
    assert described(execution=execution, **members) == JobSpec("j", Execution(exec="x"))


@pytest.mark.parametrize("empty", ["", None, [], {}])
@pytest.mark.parametrize("member", ["wd", "stdin", "stdout", "stderr", "venv", "modules", "model"])
@pytest.mark.parametrize("what", ["exec", "script"])
def test_an_optional_member_that_is_empty_is_as_absent(what: str, member: str, empty: object) -> None:
    """Programs that fill in templates send all members always."""
    program: dict[str, Any] = {what: "x"}
    assert described(execution={**program, member: empty}).execution == Execution(**program)


def test_all_may_be_empty_at_once() -> None:
    names = ("script", "wd", "stdin", "stdout", "stderr", "venv", "modules", "model")
    execution: dict[str, Any] = {"exec": "x", "args": [], "env": {}, "model_opts": {}, **dict.fromkeys(names, "")}
    assert described(execution=execution, dependencies={"after": []}) == JobSpec("j", Execution(exec="x"))


def test_empty_arguments_and_variables_are_kept() -> None:
    """An empty argument is one, and a variable may be set to nothing."""
    execution = {"exec": "x", "args": ["", "b"], "env": {"A": ""}}
    assert described(execution=execution).execution == Execution(exec="x", args=("", "b"), env={"A": ""})


def test_empty_names_of_modules_and_options_are_as_absent() -> None:
    options = {"mpirun": "", "mpirun_args": []}
    execution = {"exec": "x", "modules": ["", "gcc", ""], "model": "openmpi", "model_opts": options}
    assert described(execution=execution).execution == Execution(exec="x", modules=("gcc",), model="openmpi")


@pytest.mark.parametrize("resources", [{"mem": ""}, {"tags": ""}, {"tags": []}, {"nodeCrs": {}}, {"nodeCrs": None}])
def test_resources_that_are_empty_are_as_absent(resources: dict[str, Any]) -> None:
    assert described(resources=resources).resources == Resources(ONE_CORE)


def test_a_script_may_have_empty_args_and_env() -> None:
    execution: dict[str, Any] = {"script": "date", "args": [], "env": {}, "exec": None}
    assert described(execution=execution).execution == Execution(script="date")


@pytest.mark.parametrize("name", ["", "a/b", "../up", "ä", "x" * 300, "\\", ".-_,;%#@!"])
def test_odd_names_are_taken(name: str) -> None:
    assert described(name=name).name == name


# --- resources ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "need"),
    [
        ({"numCores": 4}, Need(Size(4, 4))),
        ({"numCores": {"exact": 4}}, Need(Size(4, 4))),
        ({"numCores": {"min": 2}}, Need(Size(2, None))),
        ({"numCores": {"max": 2}}, Need(Size(1, 2))),
        ({"numNodes": 2}, Need(nodes=Size(2, 2))),
        ({"numNodes": 2, "numCores": 0}, Need(nodes=Size(2, 2))),
        ({"numNodes": {"exact": 0}, "numCores": 3}, Need(Size(3, 3))),
        ({"numNodes": 2, "numCores": 3}, Need(Size(3, 3), Size(2, 2))),
        ({"wt": "5s"}, ONE_CORE),
        ({}, ONE_CORE),
        ({"numCores": 1, "nodeCrs": {"gpu": 2}}, Need(Size(1, 1), gpus=2)),
        ({"numCores": 1, "nodeCrs": {"mem": "2G"}}, Need(Size(1, 1), mem_bytes=2048 * MIB)),
        ({"mem": "500M"}, Need(Size(1, 1), mem_bytes=500 * MIB)),
        ({"mem": 500}, Need(Size(1, 1), mem_bytes=500 * MIB)),
    ],
)
def test_needs(raw: dict[str, Any], need: Need) -> None:
    assert described(resources=raw).resources.need == need


@pytest.mark.parametrize(
    ("raw", "scheduler"),
    [
        ({"numCores": {"min": 2, "scheduler": "maximum-iters"}}, IterationScheduler("maximum-iters")),
        ({"numCores": {"scheduler": {"name": "MAXIMUM-ITERS"}}}, IterationScheduler("maximum-iters")),
        (
            {"numNodes": {"scheduler": {"name": "split-into", "params": {"parts": 3}}}},
            IterationScheduler("split-into", of_nodes=True, parts=3),
        ),
    ],
)
def test_iteration_schedulers_as_name_and_as_object(raw: dict[str, Any], scheduler: IterationScheduler) -> None:
    assert described(resources=raw).resources.scheduler == scheduler


def test_equal_parts_of_many_jobs_are_kept_once() -> None:
    raw = [{"name": n, "execution": {"exec": "x", "env": {"A": "1"}}, "resources": {"numCores": 2}} for n in "ab"]
    first, second = describe_jobs(raw, None)
    assert first.resources is second.resources
    assert first.execution.env is second.execution.env


# --- variables ----------------------------------------------------------------------------------------------------------


def test_submit_variables_are_filled_into_values() -> None:
    spec = described(
        VARIABLES,
        name="n${rcnt}",
        execution={"exec": "$sname", "args": ["${jname}-$uniq", "$$x", "${it}"], "env": {"$rcnt": "$date"}},
        attributes={"of": ["$jname"]},
    )
    assert spec.name == "n3"
    assert spec.execution == Execution(exec="local", args=("n3-u-1", "$x", "${it}"), env={"$rcnt": "D"})
    assert spec.attributes == {"of": ["n3"]}


def test_the_name_is_filled_on_its_own() -> None:
    with pytest.raises(InvalidJobError) as caught:
        describe_jobs([job(name="$jname")], VARIABLES)
    assert wire_message(caught.value) == "Job identifier '($jname)' contains invalid characters or unknown variables"


@pytest.mark.parametrize(("name", "unfit"), [("nf-X_(y)", '"("'), ("a\tb", r'"\t"'), ("a'b", '"\'"')])
def test_a_refused_name_says_which_character(name: str, unfit: str) -> None:
    with pytest.raises(InvalidJobError) as caught:
        describe_jobs([{"name": name, "execution": {"exec": "x"}}], None)
    assert (caught.value.where, caught.value.remedy) == ("jobs[0].name", f"leave out {unfit}")


def test_a_quote_in_a_value_is_just_a_quote() -> None:
    spec = described({**VARIABLES, "uniq": '"\\'}, execution={"exec": "x", "args": ["$uniq"]})
    assert spec.execution.args == ('"\\',)


# --- errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "message", "where"),
    [
        (7, "Invalid request: Wrong submit request - wrong job data", "jobs[0]"),
        ({"execution": {}}, "Invalid request: Missing name in job description", "jobs[0].name"),
        ({"name": "j"}, "Invalid request: Missing execution element in job description", "jobs[0].execution"),
        (
            job(iteration=5),
            "Invalid request: Wrong format of iteration directive: not a dictionary",
            "jobs[0].iteration",
        ),
        (
            job(iteration={"start": 0}),
            "Invalid request: Wrong format of iteration directive: not a dictionary",
            "jobs[0].iteration",
        ),
        (
            job(iteration={"start": 3, "stop": 2}),
            "Invalid request: Wrong format of iteration directive: start index larger then stop one",
            "jobs[0].iteration",
        ),
        (
            job(name="a b"),
            "Job identifier '(a b)' contains invalid characters or unknown variables",
            "jobs[0].name",
        ),
    ],
)
def test_the_first_stage_keeps_the_old_texts(raw: object, message: str, where: str) -> None:
    with pytest.raises(PilotfishError) as caught:
        describe_jobs([raw], None)
    assert (wire_message(caught.value), caught.value.where) == (message, where)


def test_the_first_stage_of_all_jobs_comes_before_the_second_of_any() -> None:
    with pytest.raises(PilotfishError) as caught:
        describe_jobs([job(name="a b"), 7], None)
    assert caught.value.where == "jobs[1]"


ERRORS: list[tuple[dict[str, Any], str]] = [
    ({"name": 5}, "name: 5 is not text"),
    ({"name": "a:b"}, "name: Invalid job name a:b; leave the colon out"),
    ({"execution": 5}, "execution: Job execution not defined or wrong type"),
    ({"execution": {}}, "execution: Job execution (exec or script) not defined"),
    ({"execution": {"exec": ""}}, "execution: Job execution (exec or script) not defined"),
    ({"execution": {"exec": "x", "script": "y"}}, "execution: Job script and exec or args or env defined"),
    ({"execution": {"script": "y", "args": ["z"]}}, "execution: Job script and exec or args or env defined"),
    ({"execution": {"exec": 5}}, "execution.exec: 5 is not text"),
    ({"execution": {"exec": "x", "wd": 5}}, "execution.wd: 5 is not text"),
    ({"execution": {"exec": "x", "args": "-l"}}, "execution.args: Execution arguments must be an array"),
    ({"execution": {"exec": "x", "args": ["a\0"]}}, "execution.args: there is a NUL character in it"),
    ({"execution": {"exec": "x", "env": ["A"]}}, "execution.env: Execution environment must be an dictionary"),
    ({"execution": {"exec": "x", "env": []}}, "execution.env: Execution environment must be an dictionary"),
    ({"execution": {"exec": "x", "args": {}}}, "execution.args: Execution arguments must be an array"),
    ({"execution": {"exec": "x", "env": {"A": 1}}}, 'execution.env.A: 1 is not text; write "1"'),
    ({"execution": {"exec": "x", "env": {"A=B": "1"}}}, 'execution.env: "A=B" cannot be a variable'),
    ({"execution": {"exec": "x", "stdot": "o"}}, 'execution.stdot: unknown key; did you mean "stdout"?'),
    (
        {"execution": {"exec": "x", "model_opts": 1}},
        "execution.model_opts: Execution model options must be an dictionary",
    ),
    (
        {"execution": {"exec": "x", "model": "openmpi", "model_opts": {"mpirun_args": "-n"}}},
        'execution.model_opts.mpirun_args: "-n" is not an array of texts',
    ),
    (
        {"execution": {"exec": "x", "model": "opnmpi"}},
        'execution.model: unknown job execution model "opnmpi"; '
        "known are default, threads, openmpi, intelmpi, mpich, srunmpi, flux",
    ),
    (
        {"execution": {"exec": "x", "model": "srunmpi", "model_opts": {"mpirun_args": ["-v"]}}},
        "execution.model_opts.mpirun_args: model srunmpi has no such option; models that know it: openmpi, intelmpi, mpich",
    ),
    (
        {"execution": {"exec": "x", "model_opts": {"mpirun": "m"}}},
        "execution.model_opts.mpirun: model default has no such option; models that know it: openmpi, intelmpi, mpich",
    ),
    (
        {"execution": {"exec": "x", "model": "flux", "model_opts": {"args": []}}},
        "execution.model_opts.args: model flux has no such option; known are flux_args, mpirun, mpirun_args, srun_args",
    ),
    ({"resources": None}, "resources: Job resources not defined or wrong type"),
    (
        {"resources": {"numCores": "four"}},
        'resources.numCores: Wrong definition of number of cores: "four" is not a whole number; '
        'write 4 or {"min": 2, "max": 4}',
    ),
    ({"resources": {"numCores": {"min": 4, "max": 2}}}, "resources.numCores.max: 2 is less than min 4"),
    (
        {"resources": {"numCores": {"exact": 1, "min": 1}}},
        "resources.numCores: Exact number of resources defined with min/max/scheduler",
    ),
    ({"resources": {"numCores": {}}}, "resources.numCores: No resources defined; give exact, or min and max"),
    ({"resources": {"numCores": {"min": -1}}}, "resources.numCores.min: -1 is negative"),
    ({"resources": {"numCores": {"exact": 0}}}, "resources.numCores: 0 is too few; ask for at least 1"),
    (
        {"resources": {"numNodes": {"exact": 1.5}}},
        "resources.numNodes.exact: 1.5 is not a whole number; write a number such as 4",
    ),
    (
        {"resources": {"numCores": {"max": 4, "scheduler": "split-into"}}},
        "resources.numCores.max: split-into directive mixed with max directive",
    ),
    (
        {"resources": {"numCores": {"scheduler": "best"}}},
        'resources.numCores.scheduler.name: "best" is not known; use maximum-iters or split-into',
    ),
    ({"resources": {"wt": "1h30"}}, 'resources.wt: "1h30" is not a wall time; write 1h30m, 90s or HH:MM:SS'),
    ({"resources": {"wt": "0s"}}, 'resources.wt: "0s": Wall time must be greater than 0'),
    ({"resources": {"nodeCrs": {"fpga": 1}}}, "resources.nodeCrs.fpga: Unknown consumable resource fpga; "),
    (
        {"resources": {"nodeCrs": {"gpu": 1, "GPU": 1}}},
        "resources.nodeCrs.GPU: Consumable resource GPU already defined",
    ),
    (
        {"resources": {"nodeCrs": {"gpu": 0}}},
        "resources.nodeCrs.gpu: Number of consumable resource gpu must be greater than 0",
    ),
    ({"resources": {"mem": "4096"}}, 'resources.mem: "4096" has no unit; write "4096M"'),
    ({"resources": {"mem": "9" * 400 + "G"}}, "resources.mem: "),
    ({"iteration": {"stop": 2, "values": [1]}}, "iteration: Stop and values iteration are excluding"),
    ({"iteration": {"values": []}}, "iteration.values: there are no values; give at least one"),
    ({"iteration": {"values": ["\0"]}}, "iteration.values: there is a NUL character in it"),
    ({"iteration": {"start": 2, "stop": 2}}, "iteration: Job iteration stop greater or equal than start: "),
    ({"iteration": {"stop": 2.5}}, "iteration.stop: 2.5 is not a whole number"),
    ({"iteration": {"stop": 1 << 61}}, "iteration: 2305843009213693952 iterations are more than 10000000; "),
    ({"dependencies": ["a"]}, "dependencies: Job dependencies wrong type"),
    (
        {"dependencies": {"after": "a"}},
        "dependencies.after: Dependency task's list must be an array of job names",
    ),
    ({"dependencies": {"after": ["a", "j"]}}, 'dependencies.after[1]: job "j" cannot wait for itself'),
    ({"dependencies": {"after": ["a:x"]}}, 'dependencies.after[0]: "x" is not an iteration; '),
    ({"dependencies": {"after": ["a:" + "9" * 30]}}, "dependencies.after[0]: "),
    ({"attributes": [1]}, "attributes: Job attributes must be dictionary"),
    ({"priority": "high"}, 'priority: "high" is not a whole number'),
    ({"priority": 1 << 62}, "priority: 4611686018427387904 is too large"),
    ({"retries": -1}, "retries: -1 is less than 0"),
    ({"resorces": {}}, 'resorces: unknown key; did you mean "resources"?'),
]


@pytest.mark.parametrize(("members", "text"), ERRORS)
def test_the_second_stage_names_the_place(members: dict[str, Any], text: str) -> None:
    assert error_of(**members).startswith(f"Wrong submit request: jobs[0].{text}")


def test_the_place_counts_the_jobs() -> None:
    bad = {"numCores": {"min": 4, "max": 2}}
    with pytest.raises(InvalidJobError) as caught:
        describe_jobs([job(), job(), job(), job(resources=bad)], None)
    assert str(caught.value) == "jobs[3].resources.numCores.max: 2 is less than min 4; give at least 4"


# --- and back -----------------------------------------------------------------------------------------------------------

texts = st.text(alphabet="ab $\"'é", max_size=4)
words = st.text(alphabet="abc", min_size=1, max_size=4)
counts = st.integers(1, 9)
sizes = st.one_of(
    counts,
    st.fixed_dictionaries({"exact": counts}),
    st.fixed_dictionaries({"min": st.integers(1, 4), "max": st.integers(4, 9)}),
    st.fixed_dictionaries({"min": counts, "scheduler": st.sampled_from(["maximum-iters", "split-into"])}),
)
executions = st.one_of(
    st.fixed_dictionaries({"script": words, "modules": st.lists(words)}),
    st.fixed_dictionaries(
        {"exec": words},
        optional={
            "args": st.lists(texts),
            "env": st.dictionaries(words, texts),
            "wd": texts,
            "stdout": words,
            "model": st.sampled_from(["threads", "flux"]),
        },
    ),
    st.fixed_dictionaries(
        {"exec": words, "model": st.just("mpich")},
        optional={
            "model_opts": st.fixed_dictionaries({}, optional={"mpirun": words, "mpirun_args": st.lists(words)}),
        },
    ),
)
jobs = st.fixed_dictionaries(
    {"name": st.just("j"), "execution": executions},
    optional={
        "resources": st.fixed_dictionaries(
            {"numCores": sizes},
            optional={
                "numNodes": counts,
                "wt": st.integers(1, 10**6).map(lambda millis: f"{millis / 1000}s"),
                "nodeCrs": st.fixed_dictionaries({"gpu": counts}),
                "mem": st.integers(1, 1 << 40).map(lambda count: f"{count}B"),
            },
        ),
        "iteration": st.one_of(
            st.fixed_dictionaries({"start": st.integers(-5, 0), "stop": st.integers(1, 9)}),
            st.fixed_dictionaries({"values": st.lists(texts, min_size=1)}),
        ),
        "dependencies": st.fixed_dictionaries({"after": st.lists(st.sampled_from(["a", "b:2", "c:-1", "d:${it}"]))}),
        "attributes": st.dictionaries(words, st.one_of(st.none(), counts, texts)),
        "priority": st.integers(-9, 9),
        "retries": counts,
    },
)


@given(jobs)
def test_a_spec_given_back_is_described_to_itself(raw: dict[str, Any]) -> None:
    (spec,) = describe_jobs([raw], None)
    assert describe_jobs([undescribe(spec)], None) == [spec]


def test_the_normal_form_has_what_reports_need() -> None:
    assert undescribe(described()) == {
        "name": "j",
        "execution": {"exec": "/bin/true", "args": [], "env": {}, "script": None, "model_opts": {}},
        "resources": {"numCores": {"exact": 1}},
    }


# --- lengths ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("execution", "said"),
    [
        (
            {"exec": "true", "args": ["a", "x" * 131_072]},
            "131072 bytes are more than the kernel takes for an argument, 131071",
        ),
        (
            {"exec": "true", "args": ["é" * 65_536]},
            "131072 bytes are more than the kernel takes for an argument, 131071",
        ),
        (
            {"exec": "true", "env": {"V": "x" * 131_070}},
            "131072 bytes are more than the kernel takes for a variable with its name, 131071",
        ),
        (
            {"exec": "true", "args": ["x" * 100_000] * 70},
            "7000070 bytes are more than the kernel takes for all arguments and variables, 6291456",
        ),
    ],
)
def test_what_no_program_can_be_started_with_is_refused(execution: dict[str, Any], said: str) -> None:
    assert said in error_of(execution=execution)


@pytest.mark.parametrize(
    "execution",
    [
        {"exec": "true", "args": ["x" * 131_071]},
        {"exec": "true", "args": ["${itval}" * 20_000]},
        {"exec": "true", "args": ["abc"] * 100_000},
        {"exec": "true", "env": {"V": "x" * 131_069}},
        {"script": "y" * 1_000_000},
    ],
)
def test_other_lengths_are_taken(execution: dict[str, Any]) -> None:
    described(execution=execution)


def test_a_large_description_is_filled_in_and_read_in_slices() -> None:
    """A job may have a million values, or wait for as many others."""
    names = [f"${{uniq}}-{number}" for number in range(10_000)]
    raw = {"name": "a", "execution": {"exec": "true"}, "iteration": {"values": names}, "dependencies": {"after": names}}
    specs: list[JobSpec] = []

    def steps() -> Steps[None]:
        specs.extend((yield from describe_in_steps([raw], {"uniq": "u"})))

    count = sum(1 for _ in steps())
    filled = tuple(f"u-{number}" for number in range(10_000))
    assert specs[0].iteration == Iteration(0, 10_000, filled)
    assert tuple(one.job for one in specs[0].after) == filled
    assert count >= 20_000 // (10 * SLICE) + 10_000 // (10 * SLICE) + 10_000 // SLICE


def test_the_least_useful_time_is_a_wall_time_of_at_most_the_limit() -> None:
    def resources(**members: object) -> Resources:
        return describe_jobs([{"name": "j", "execution": {"exec": "x"}, "resources": members}], None)[0].resources

    assert resources(wt="1h", min_time="10m").min_time_s == 600
    assert resources(min_time="10m").min_time_s == 600
    assert resources(wt="1h").min_time_s is None
    with pytest.raises(InvalidJobError, match=r'resources\.min_time: "2h" is longer than wt'):
        resources(wt="1h", min_time="2h")
