"""Generating for a file on a Ray cluster of two nodes, which this machine plays."""

import pytest
from tiny import tiny_model

from attention_rnn.tokenizer_training import train_tokenizer

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")
generate_file = pytest.importorskip("attention_rnn.examples.generate_file")  # which the actors import too
generate_ray = pytest.importorskip("attention_rnn.examples.generate_ray")

TEXTS = ["abc", "b", "", "cabcab", "acb", "bb", "ca", "aaaa", "cc"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_tokenizer(TEXTS, "character")
    model = tiny_model(vocab_size=len(tokenizer))
    model.generation_config.max_length = 7
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "texts.txt").write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def cluster():
    node = {"num_cpus": 2, "object_store_memory": 100 * 2**20}
    nodes = cluster_utils.Cluster(initialize_head=True, head_node_args=node)
    nodes.add_node(**node)
    nodes.wait_for_nodes()
    ray.init(address=nodes.address, log_to_driver=False)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


def test_two_nodes_write_what_one_process_writes_and_go_on_with_its_parts(folder, cluster, tmp_path, monkeypatch):
    words = [str(folder), str(folder / "texts.txt")]
    options = ["--part_size", "2", "--num_return_sequences", "2", "--num_beams", "2", "--scores"]
    generate_file.main([*words, str(tmp_path / "one.jsonl"), *options])
    expected = (tmp_path / "one.jsonl").read_text(encoding="utf-8")

    # a command that was interrupted behind its first part
    output = tmp_path / "two.jsonl"
    write_part = generate_file.write_part
    monkeypatch.setattr(generate_file, "write_part", lambda *values: write_part(*values) if values[2] == 0 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        generate_file.main([*words, str(output), *options])
    monkeypatch.undo()
    first = tmp_path / "two.jsonl.parts" / "00000000.jsonl"
    first.write_text(first.read_text(encoding="utf-8").replace("abc", "kept", 1), encoding="utf-8")

    generate_ray.main([*words, str(output), *options, "--workers", "2"])
    assert output.read_text(encoding="utf-8") == expected.replace("abc", "kept", 1)
    assert not first.parent.exists()


def test_an_actor_reads_its_parts_in_any_order(folder, tmp_path):
    words = [str(folder), str(folder / "texts.txt"), str(tmp_path / "out.jsonl"), "--part_size", "2"]
    parser = generate_file.make_parser(None)
    parser.set_defaults(cpus_per_worker=1, gpus_per_worker=0)
    actor = generate_ray.Generator(generate_file.parse(parser, words))
    assert [actor.read(number) for number in (0, 2, 1, 4)] == [TEXTS[0:2], TEXTS[4:6], TEXTS[2:4], TEXTS[8:]]
