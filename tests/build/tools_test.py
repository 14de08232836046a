#!/usr/bin/env python3
"""The tools keep their promises: each says at its head what it does, with an example, and answers --help; manual pages
become readable text; bench/overlap counts what is hidden in a planted trace; the planner's rates for Fugaku are those of
the kernels' report; a curve is drawn from a metrics file, also from one whose last line is half written."""
import importlib.machinery
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import unittest
import xml.dom.minidom

ROOT = os.path.dirname(os.path.realpath("WORKSPACE"))
TOOLS = os.path.join(ROOT, "tools")


def load(tool):
    sys.dont_write_bytecode = True
    loader = importlib.machinery.SourceFileLoader(tool, os.path.join(TOOLS, tool))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(tool, loader))
    loader.exec_module(module)
    return module


class EveryTool(unittest.TestCase):
    def test_head_says_what_it_does_and_help_answers(self):
        tools = [name for name in sorted(os.listdir(TOOLS)) if os.access(os.path.join(TOOLS, name), os.X_OK) and
                 os.path.isfile(os.path.join(TOOLS, name))]
        self.assertIn("quickstart", tools)
        for tool in tools:
            with self.subTest(tool=tool):
                with open(os.path.join(TOOLS, tool), encoding="utf-8") as opened:
                    head = opened.read().split("\n")[:5]
                self.assertTrue(head[0].startswith("#!"), "no interpreter line")
                self.assertTrue(all(line.startswith("# ") for line in head[1:4]), "not three comment lines: %s" % head)
                self.assertIn("Example", " ".join(head[1:5]))
                told = subprocess.run([os.path.join(TOOLS, tool), "--help"], capture_output=True, text=True, timeout=60)
                self.assertEqual(told.returncode, 0, told.stderr)
                self.assertGreater(len(told.stdout), 40)


class EveryBenchmark(unittest.TestCase):
    def test_predict_and_overlap_say_what_they_do(self):
        for name in ("predict", "overlap"):
            with self.subTest(tool=name):
                tool = os.path.join(ROOT, "bench", name)
                with open(tool, encoding="utf-8") as opened:
                    head = opened.read().split("\n")[:5]
                self.assertTrue(all(line.startswith("# ") for line in head[1:4]), "not three comment lines: %s" % head)
                told = subprocess.run([tool, "--help"], capture_output=True, text=True, timeout=60)
                self.assertEqual(told.returncode, 0, told.stderr)


class Overlap(unittest.TestCase):
    TOOL = os.path.join(ROOT, "bench", "overlap")

    def told(self, events):
        with tempfile.TemporaryDirectory() as folder:
            trace = os.path.join(folder, "trace.json")
            with open(trace, "w", encoding="utf-8") as out:
                json.dump({"traceEvents": events}, out)
            return subprocess.run([self.TOOL, trace], capture_output=True, text=True, timeout=60)

    @staticmethod
    def span(rank, track, name, begin, end, size=1 << 20):
        return {"ph": "X", "pid": rank, "tid": track, "name": name, "ts": begin, "dur": end - begin, "args": {"bytes": size}}

    def test_the_share_beside_computing_of_the_same_rank_is_counted_once(self):
        events = [
            self.span(0, 0, "matmul", 0, 60), self.span(0, 0, "waits for a message", 60, 100),
            self.span(0, 1, "all_reduce", 20, 100), self.span(0, 1, "reduce_scatter", 30, 50),  # 80, of it 40 hidden
            self.span(0, 1, "all_gather", 0, 500), self.span(0, 1, "all_reduce", 200, 300, 8),  # neither is counted
            self.span(1, 0, "matmul", 0, 300), self.span(1, 1, "reduce_scatter", 100, 120),     # 20, all hidden
        ]
        told = self.told(events)
        self.assertEqual(told.returncode, 0, told.stderr)
        lines = told.stdout.strip().split("\n")
        self.assertIn("50.0 %", lines[0])
        self.assertIn("100.0 %", lines[1])
        self.assertIn("in all: 60.0 %", lines[2])

    def test_a_trace_without_such_messages_is_an_error(self):
        told = self.told([self.span(0, 0, "matmul", 0, 60)])
        self.assertNotEqual(told.returncode, 0)
        self.assertIn("has no messages", told.stderr)


class MachineRates(unittest.TestCase):
    def test_fugaku_has_the_rates_of_the_kernels_report_and_no_others(self):
        model = os.path.join(TOOLS, "a64fx_model")
        told = subprocess.run([model, "--check"], capture_output=True, text=True, timeout=60)
        self.assertEqual(told.returncode, 0, told.stderr)
        sys.path.insert(0, TOOLS)
        from a64fx import rates
        machine, report = (os.path.join(ROOT, name) for name in ("configs/machines/fugaku.toml", "bench/a64fx.md"))
        with open(machine, encoding="utf-8") as opened:
            text = opened.read()
        changes = [("\nmatmul = 0.", "\nmatmul = 0.1"), ("512 = 0.", "512 = 0.1"),
                   ("\nattention = ", "\n# attention = "), ("\nskinny_below = 256", "\nskinny_below = 200")]
        for old, new in changes:
            with self.subTest(change=new), tempfile.TemporaryDirectory() as folder:
                self.assertIn(old, text)
                other = os.path.join(folder, "machine.toml")
                with open(other, "w", encoding="utf-8") as out:
                    out.write(text.replace(old, new))
                with self.assertRaises(SystemExit):
                    rates.check(other, report)


class ManualPages(unittest.TestCase):
    def test_markup_goes_and_text_stays(self):
        cases = [
            (".SH 名前\nls \\- 一覧を\n表示する\n", "名前\nls - 一覧を表示する\n"),
            ("first line\nsecond line\n", "first line second line\n"),
            (".BR ls (1)\nと\n.B cp\n", "ls(1) と cp\n"),
            (".B \"two words\" three\n", "two words three\n"),
            (".\\\" a comment\ntext \\fBbold\\fR \\(co \\e\n", "text bold © \\\n"),
            (".nf\n  int x;\n    y;\n.fi\nrest\n", "int x;\n    y;\nrest\n"),
            (".ig\nhidden\n..\nshown\n", "shown\n"),
            (".de XX\nhidden\n..\nshown\n", "shown\n"),
            ("one\n.PP\ntwo\n", "one\n\ntwo\n"),
            (".TS\nl l.\na\tb\n_\nc\td\n.TE\n", "a b\nc d\n"),
            ("\\*(lqquoted\\*(rq\n", "“quoted”\n"),
        ]
        pages = load("manpages_text")
        for roff, text in cases:
            with self.subTest(roff=roff):
                self.assertEqual(pages.plain_text(roff), text)

    def test_near_copies_are_not_held_out(self):
        pages = load("manpages_text")
        lines = ["この行は三十文字より長い行であり、二つのページのどちらにも書かれている行である、その番号は %d" % i for i in range(9)]
        chosen = {"1-train": {"ls.1": "\n".join(lines)},
                  "2-held-out": {"dir.1": "\n".join(lines[:5] + ["x" * 40, "y" * 40]), "new.1": "\n".join(["z" * 40] * 9)}}
        pages.move_near_copies(chosen)
        self.assertEqual(sorted(chosen["1-train"]), ["dir.1", "ls.1"])
        self.assertEqual(sorted(chosen["2-held-out"]), ["new.1"])


class Plot(unittest.TestCase):
    def test_curve_of_a_run_in_progress(self):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "metrics.jsonl"), "w", encoding="utf-8") as out:
                for step in range(1, 101):
                    out.write(json.dumps({"step": step, "loss": 10.0 - step / 20, "tokens": 64 * step}) + "\n")
                out.write(json.dumps({"step": 100, "eval_loss": 5.5}) + "\n" + '{"step": 10')
            picture = os.path.join(folder, "loss.svg")
            for x in ("step", "tokens"):
                drawn = subprocess.run([os.path.join(TOOLS, "plot"), folder, "--svg", picture, "--x", x, "--title", "a < b"],
                                       capture_output=True, text=True, timeout=60)
                self.assertEqual(drawn.returncode, 0, drawn.stderr)
                self.assertIn("loss", drawn.stdout)
                rows = [line for line in drawn.stdout.split("\n") if any("\u2800" < c <= "\u28ff" for c in line)]
                self.assertGreater(len(rows), 10, "a line from corner to corner crosses most rows:\n" + drawn.stdout)
                document = xml.dom.minidom.parse(picture)
                self.assertEqual(len(document.getElementsByTagName("polyline")), 2)
                self.assertGreaterEqual(len(document.getElementsByTagName("circle")), 1)

    def test_smoothing_leaves_a_straight_line_alone_at_its_begin(self):
        plot = load("plot")
        line = [(x, 2.0 * x) for x in range(50)]
        for (_, smoothed), (_, y) in list(zip(plot.smooth(line, 7), line))[:46]:
            self.assertAlmostEqual(smoothed, y)

    def test_a_missing_file_is_said(self):
        told = subprocess.run([os.path.join(TOOLS, "plot"), "/nonexistent"], capture_output=True, text=True, timeout=60)
        self.assertNotEqual(told.returncode, 0)
        self.assertIn("/nonexistent", told.stderr)


if __name__ == "__main__":
    unittest.main()
