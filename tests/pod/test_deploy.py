from .loopback import Pod


def test_deploy_runs_the_job_and_brings_verified_results_back(pod: Pod) -> None:
    done = pod.cai("deploy", "--yes", "--source", str(pod.source), "--into", str(pod.target), "--", "--lines", "20")
    print(done.stdout, done.stderr)
    assert (pod.target / "results" / "name with 'quotes', $HOME and spaces.json").read_text() == "{}"
    assert "all verified" in done.stderr
