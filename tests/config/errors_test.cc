#include <catch2/catch.hpp>

#include <random>

#include "core/config/schema.h"
#include "tests/config/good_config.h"
#include "tests/config/temp_folder.h"

using namespace kumiki;

TEST_CASE("an error names file, line and column, shows the line with a caret, and says what was meant") {
  CHECK(error_of("[run]\n  stpes = 4\n") ==
        "a.toml:2:3: [run] has no key \"stpes\"\n"
        "  2 |   stpes = 4\n"
        "    |   ^^^^^\n"
        "  did you mean \"steps\"?");
  CHECK(error_of("[run]\nsteps = [\n") ==
        "a.toml:2:11: not valid TOML: Error while parsing array: encountered end-of-file\n"
        "  2 | steps = [\n    |          ^");
  CHECK(error_of("[run]\n[ =\n") == "a.toml:2:1: not valid TOML\n  2 | [ =\n    | ^");
}

TEST_CASE("the caret stands under the value also behind tabs and wide characters") {
  CHECK(contains(error_of("[run]\n\tname = \"組木\"\n\tsteps = \"組\" # 木\n"),
                 "a.toml:3:10: run.steps must be an integer, not a string\n"
                 "  3 | \tsteps = \"組\" # 木\n"
                 "    | \t        ^^^^"));
}

TEST_CASE("what is wrong with the core's keys is said") {
  const std::string head = "[run]\nsteps=1\nsequence=1\n";
  const std::string model = "[model]\nuse=\"gpt\"\n", data = "[[data]]\nuse=\"text\"\n";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "a.toml: [run] lacks `steps`"},
      {"steps = 4\n" + head, "a.toml:1:1: the key \"steps\" stands in no table"},
      {"[rnu]\n", "there is no table [rnu]"},
      {"[rnu]\n", "did you mean \"run\"?"},
      {"[run]\nsteps=1\n", "[run] lacks `sequence`"},
      {"[run]\nsteps=-1\nsequence=1\n", "run.steps = -1 is out of range: at least 0"},
      {"[run]\nsteps=1.5\nsequence=1\n", "must be a whole number, not 1.5"},
      {"[run]\nsteps=true\nsequence=1\n", "must be an integer, not a boolean"},
      {"[run]\nsteps=2024-01-01\n", "dates and times are not used here"},
      {head + "compute=\"bf61\"\n", "did you mean \"bf16\"?"},
      {head + "threads=100000\n", "run.threads = 100000 is out of range: from 0 to 65536"},
      {head + "name=\"a/b\"\n", "cannot be the name of a folder"},
      {head + "name=\"a\\u0000b\"\n", "U+0000"},
      {head + "max_wall=nan\n", "run.max_wall must be finite"},
      {head + "global_batch=\"x\"\n", "run.global_batch must be an integer"},
      {head + "global_batch={start=4,end=2,tokens=9}\n", "must not fall"},
      {head + "global_batch={start=4,ende=2,tokens=9}\n", "lacks `end`"},
      {head, "[model] lacks `use`"},
      {head + "[model]\nuse=4\n" + data, "model.use must be a string"},
      {head + model, "there is no [[data]]"},
      {head + model + "[[data]]\npath=\"x\"\n", "[[data]] lacks `use`"},
      {head + model + data + "weight=-1\n", "data.0.weight = -1 is out of range"},
      {"data = 5\n" + head + model, "a.toml:1:1: data must be a list of tables, [[data]], not an integer"},
      {head + model + data + "[[parallel]]\ndegree=2\n", "[[parallel]] lacks `use`"},
      {head + model + data + "[[parallel]]\nuse=\"a\"\n[[parallel]]\nuse=\"a\"\n", "has \"a\" twice"},
      {head + model + data + "[optimizer]\nschedule={use=\"cosin\"}\n", "did you mean \"cosine\"?"},
      {head + model + data + "[optimizer]\nlearning_rate=1e-5\nschedule={minimum=1e-3}\n",
       "is above optimizer.learning_rate"},
      {head + model + data + "[optimizer]\nschedule={wramup=1}\n", "did you mean \"warmup\"?"},
      {head + model + data + "[kernels]\nuse=[]\n", "kernels.use names no component"},
      {head + model + data + "[kernels]\nuse=[\"a\",1]\n", "kernels.use must be a list of strings"},
      {head + model + data + "[kernels]\nuse=[\"onednn\"]\n[kernels.onedn]\nx=1\n", "did you mean \"onednn\"?"},
      {head + model + data + "[kernels]\nuse=[\"onednn\"]\nonednn=1\n", "must be a table"},
      {head + model + data + "[checkpoint]\nevry=1\n", "did you mean \"every\"?"},
      {head + model + data + "[plugins]\nsha256={\"a.so\"=\"12\"}\n", "is not 64 hexadecimal digits"},
      {"extends = 4\n" + head, "extends must be a list of file names"},
      {"extends = [\"not there.toml\"]\n", "cannot read not there.toml"},
  };
  for (const auto& [text, expected] : cases) {
    CAPTURE(text, expected);
    const std::string error = error_of(text);
    CAPTURE(error);
    CHECK(contains(error, expected));
  }
}

TEST_CASE("an unreadable file is an error with exit code 2") {
  const TempFolder folder;
  for (const std::string& path : {folder.path(), folder / "absent.toml", folder.write("a.toml", "[run\n")}) {
    try {
      Config::load(path);
      FAIL("no error for " + path);
    } catch (const Error& error) {
      CHECK(contains(error.what(), path));
      CHECK(error.exit_code == 2);
    }
  }
}

TEST_CASE("a table finds the keys that nobody asked for") {
  const Config config = Config::parse(std::string(kGood), "a.toml");
  const Table model = config.table("model");
  CHECK(model.use() == "gpt");
  CHECK_THROWS_WITH(model.finish(), Catch::Contains("model has no key \"layers\""));
  CHECK(model.get_i64("layers", 1) == 2);
  CHECK_NOTHROW(model.finish());
  CHECK(config.table("no.such.table").empty());
}

TEST_CASE("whatever the bytes are, reading gives a configuration or an Error") {
  const unsigned seed = 20240817;
  CAPTURE(seed);
  std::mt19937 random(seed);
  const std::string good = kGood;
  const std::string pieces[] = {
      "[",       "]",  "[[",  "]]",        "=",    "\"",  "'''",   "\n", "{",   "}",
      ",",       ".",  "#",   "\\u12",     "\xff", "\0x", "1e999", "-",  "use", "extends = [\"a.toml\"]\n",
      "[run]\n", "0x", "inf", "[[data]]\n"};
  size_t broken = 0;
  for (int round = 0; round < 4000; ++round) {
    std::string text = good;
    const int changes = 1 + static_cast<int>(random() % 4);
    for (int i = 0; i < changes; ++i) {
      const size_t at = random() % (text.size() + 1);
      switch (random() % 4) {
        case 0: text.erase(at, random() % 8); break;
        case 1: text.insert(at, pieces[random() % std::size(pieces)]); break;
        case 2: text.resize(at); break;
        default:
          if (at < text.size()) text[at] = static_cast<char>(random() % 256);
      }
    }
    try {
      const Config config = Config::parse(text, "a.toml", {"parallel.tensor.degree=4"});
      const std::string resolved = config.to_toml();
      CHECK(Config::parse(resolved, "b.toml").to_toml() == resolved);
    } catch (const Error& error) {
      ++broken;
      CHECK(std::string(error.what()).size() > 10);
    }
  }
  CHECK(broken > 1000);
}

TEST_CASE("whatever --set says, the result is a configuration or an Error") {
  const unsigned seed = 7;
  CAPTURE(seed);
  std::mt19937 random(seed);
  const std::string pieces[] = {"run",    "data", "parallel", "metrics",   "0",        ".",  "=",       "[",
                                "]",      "{",    "}",        "\"",        "use",      "1",  "x",       "steps",
                                "tensor", " ",    "\n",       "optimizer", "schedule", "-1", "kernels", ","};
  for (int round = 0; round < 20000; ++round) {
    std::string argument;
    for (size_t i = 0; i < 1 + random() % 9; ++i) argument += pieces[random() % std::size(pieces)];
    CAPTURE(argument);
    try {
      const Config config = good_config({argument});
      const std::string resolved = config.to_toml();
      CHECK(Config::parse(resolved, "b.toml").to_toml() == resolved);
    } catch (const Error&) {
    }
  }
}

TEST_CASE("letters beyond ASCII are refused in bare keys and taken in strings and comments") {
  for (const std::string letter : {"é", "ä", "組", "Ω"}) {
    CAPTURE(letter);
    CHECK(contains(error_of(letter + " = 1\n"), "a.toml:1:1: not valid TOML"));
    CHECK(contains(error_of("a" + letter + " = 1\n"), "not valid TOML"));
    CHECK(contains(error_of("a = 1 " + letter + "\n"), "not valid TOML"));
    const std::string prompt = "sample_prompt = \"\"\"a \\\n  " + letter + "b\"\"\" # " + letter + "\n";
    const std::string text = "[run]\n" + prompt + std::string(kGood).substr(6);
    CHECK(Config::parse(text, "a.toml").run().sample_prompt == "a " + letter + "b");
  }
}

TEST_CASE("deep nesting is refused, not a crash") {
  CHECK(contains(error_of("a = " + std::string(100000, '[')), "not valid TOML"));
  std::string key = "a";
  for (int i = 0; i < 2000; ++i) key += ".a";
  CHECK(error_of(key + " = 1\n") != "no error");
}
