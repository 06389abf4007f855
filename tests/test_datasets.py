"""Public texts are fetched once and checked, their tables read as their first line says; offline a twin says so."""

import hashlib
import http.server
import io
import json
import threading
import zipfile

import pytest

from llmcourse.corpora import reference
from llmcourse.corpora.review import rule
from llmcourse.datasets import load_labelled, load_questions, load_texts, text_catalogue

WIKI = " = A heading = \n\n A first line . \n A second line . \n"
TABLE = "sentence\tlabel\na fine film \t1\na dull , dull film \t0\n"


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in members.items():
            archive.writestr(f"{name}.txt", text)
    return file.getvalue()


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """serve(content) answers every request on this machine with the content; `serve.asked` lists the requests."""
    monkeypatch.setenv("LLMCOURSE_HOME", str(tmp_path / "home"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    asked, answer = [], {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200 if "content" in answer else 404)
            self.send_header("Content-Length", str(len(answer.get("content", b""))))
            self.end_headers()
            self.wfile.write(answer.get("content", b""))

        def log_message(self, *arguments):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()

    def serve(content=None, kind="texts", **more):
        if content is not None:
            answer["content"] = content
        address = f"http://127.0.0.1:{server.server_port}/small.zip"
        splits = {"train": "train.txt", "validation": "dev.txt"}
        return {"small": {"kind": kind, "licence": "ours", "address": address, "splits": splits} | more}

    serve.asked = asked
    yield serve
    server.shutdown()
    thread.join()
    server.server_close()


LABELLED = {"kind": "labelled", "text": "sentence", "label": "label", "classes": ["blame", "praise"]}


def test_texts_come_line_by_line_from_the_part_asked_for_and_are_fetched_once(serve):
    known = serve(zipped(train=WIKI, dev="other\n"))
    assert load_texts("small", known=known).lines == ["= A heading =", "A first line .", "A second line ."]
    found = load_texts("small", "validation", known=known)
    assert found.lines == ["other"]
    assert serve.asked == ["/small.zip"]
    assert repr(found).startswith("small: 1 lines; from 127.0.0.1:") and repr(found).endswith("licence: ours")


def test_a_table_is_read_by_the_names_of_its_columns_in_any_order(serve):
    known = serve(zipped(train=TABLE, dev="label\tid\tsentence\n1\t7\tlovely\n"), **LABELLED)
    assert load_labelled("small", known=known).examples == [("a fine film", 1), ("a dull , dull film", 0)]
    assert load_labelled("small", "validation", known=known).examples == [("lovely", 1)]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("index\tsentence\n0\tgood\n", "has the columns index, sentence, and 'sentence' and 'label' are needed"),
        ("sentence\tlabel\ngood\t2\n", "line 2 of small does not end in a label from 0 to 1: 'good"),
        ("sentence\tlabel\ngood\t1\nbad\n", "line 3 of small does not end in a label"),
        ("sentence\tlabel\ngood\tfine\n", "does not end in a label"),
    ],
)
def test_a_table_of_another_form_is_refused_with_its_line(serve, table, words):
    with pytest.raises(ValueError, match=words):
        load_labelled("small", known=serve(zipped(train=table), **LABELLED))


def test_another_content_than_the_checksum_says_is_refused(serve):
    content = zipped(train=WIKI)
    right = hashlib.sha256(content).hexdigest()
    assert load_texts("small", known=serve(content, sha256=right)).lines
    with pytest.raises(ValueError, match="SHA-256"):
        load_texts("small", known=serve(content, sha256="0" * 64))


def test_each_part_in_a_file_of_its_own_has_its_own_checksum_and_size(serve):
    content = squad_file()
    right, size = hashlib.sha256(content).hexdigest(), len(content)
    known = one_file_a_part(serve(content, kind="questions"))
    known["small"] |= {"sha256": {"train": right, "validation": "0" * 64}, "bytes": {"train": size, "test": size + 1}}
    known["small"]["splits"]["test"] = "t"
    assert load_questions("small", known=known).name == "small"
    with pytest.raises(ValueError, match=rf"has the SHA-256 {right}, not 0000"):
        load_questions("small", "validation", known=known)
    with pytest.raises(ValueError, match=rf"has {size:,} bytes, not {size + 1:,}: it is not used"):
        load_questions("small", "test", known=known)


def test_without_an_answer_the_twin_comes_and_says_so(serve):
    found = load_labelled("small", known=serve(**LABELLED))
    assert found.name == "review" and "the twin of small, which could not be reached" in repr(found)
    assert len(found.examples) == 3000 and found.classes == ("blame", "praise")
    assert all(rule(text.split()) == label for text, label in found.examples[:200])
    assert load_labelled("small", "validation", known=serve(**LABELLED)).examples != found.examples
    texts = load_texts("small", known=serve())
    assert texts.name == "reference" and len(texts.lines) > 1000 and "twin" in repr(texts)
    held_out = load_texts("small", "validation", known=serve()).lines
    assert len(held_out) > 100 and texts.lines[-1] != held_out[0]
    assert "\n".join([*texts.lines, *held_out]) in "\n".join(
        line.strip() for line in reference.text().split("\n") if line.strip()
    )
    with pytest.raises(ConnectionError, match="small could not be fetched"):
        load_texts("small", known=serve(), offline_ok=False)


def squad_file(start=4, **changes):
    """A file in SQuAD's form: one text, a question with two right answers, and one without an answer."""
    told = {"id": "q1", "question": "Who sleeps?", "is_impossible": False}
    told["answers"] = [{"text": "old cat", "answer_start": start}, {"text": "cat", "answer_start": 8}]
    silent = {"id": "q2", "question": "Who sings?", "is_impossible": True, "answers": []}
    paragraph = {"context": "the old cat sleeps .", "qas": [told, silent]} | changes
    return json.dumps({"version": "v2.0", "data": [{"title": "cats", "paragraphs": [paragraph]}]}).encode()


def one_file_a_part(known):
    known["small"]["address"] = known["small"]["address"].replace("small.zip", "{part}.json")
    return known


def test_questions_come_with_their_text_and_the_places_of_their_answers(serve):
    known = one_file_a_part(serve(squad_file(), kind="questions"))
    found = load_questions("small", "validation", known=known)
    first, second = found.examples
    assert serve.asked == ["/dev.txt.json"]
    assert (first.question, first.context) == ("Who sleeps?", "the old cat sleeps .")
    assert first.answers == (("old cat", 4), ("cat", 8)) and second.answers == ()
    assert repr(found).startswith("small: 2 questions, 1 of them without an answer; from 127.0.0.1:")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (squad_file(start=5), "question q1 of small: 'old cat' does not stand at character 5"),
        (squad_file(start=-16), "does not stand at character -16"),
        (squad_file(qas=[{"id": "q1"}]), "small is not in the form of SQuAD .KeyError: 'answers'"),
        (b"[]", "not in the form of SQuAD"),
        (b"<html>", "not in the form of SQuAD .JSONDecodeError"),
    ],
)
def test_questions_of_another_form_or_with_misplaced_answers_are_refused(serve, content, words):
    with pytest.raises(ValueError, match=words):
        load_questions("small", known=one_file_a_part(serve(content, kind="questions")))


def test_without_an_answer_the_twin_of_the_questions_has_answers_that_stand_where_it_says(serve):
    found = load_questions("small", known=one_file_a_part(serve(kind="questions")))
    assert found.name == "kb" and len(found.examples) == 3000 and "the twin of small" in repr(found)
    without = sum(not one.answers for one in found.examples) / 3000
    assert 0.25 < without < 0.35
    for one in found.examples:
        for text, start in one.answers:
            assert one.context[start : start + len(text)] == text and text in one.context.split()


def test_names_and_parts_that_do_not_exist_are_named():
    with pytest.raises(ValueError, match="'sst2' is none of the known data sets of this kind: wikitext2"):
        load_texts("sst2")
    with pytest.raises(ValueError, match="sst2 has no part 'test'; use one of train, validation"):
        load_labelled("sst2", "test")


def test_the_catalogue_holds_what_a_loader_needs():
    known = text_catalogue()
    assert {"wikitext2", "sst2"} <= known.keys()
    for one in known.values():
        assert one["licence"] and one["about"].startswith("https://") and one["address"].startswith("https://")
        assert "train" in one["splits"]
        each_part = {"sha256", "bytes"} if "{part}" in one["address"] else set()
        for field in ("sha256", "bytes"):
            found = one[field].values() if field in each_part else [one[field]]
            assert field not in each_part or one[field].keys() == one["splits"].keys()
            assert all(len(value) == 64 if field == "sha256" else value > 0 for value in found)
        assert one["kind"] in ("texts", "labelled", "questions")
