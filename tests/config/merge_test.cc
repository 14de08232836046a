#include <catch2/catch.hpp>

#include <filesystem>

#include "tests/config/good_config.h"
#include "tests/config/temp_folder.h"

using namespace kumiki;

namespace {

std::vector<std::string> names(const std::vector<ComponentUse>& components) {
  std::vector<std::string> out;
  for (const ComponentUse& component : components) out.push_back(component.name);
  return out;
}

} // namespace

TEST_CASE("what the file says wins over what it extends, and the later of two files over the earlier") {
  const TempFolder folder;
  folder.write("one.toml", "[run]\nsteps = 1\nseed = 1\nmicro_batch = 1\n");
  folder.write("inner/two.toml", "extends = \"deep.toml\"\n[run]\nseed = 2\nmicro_batch = 2\n");
  folder.write("inner/deep.toml", "[run]\neval_every = 7\nmicro_batch = 9\n");
  const std::string path = folder.write("main.toml", R"(extends = ["one.toml", "inner/two.toml"]
[run]
sequence = 8
micro_batch = 3
[model]
use = "gpt"
[data]
use = "text"
)");
  const Config config = Config::load(path);
  CHECK(config.run().steps == 1);
  CHECK(config.run().seed == 2);
  CHECK(config.run().micro_batch == 3);
  CHECK(config.run().eval_every == 7);
  CHECK(config.run().name == "main");
  CHECK(config.table("run").origin("seed") == folder / "inner/two.toml" + ":3:8");
  CHECK(Config::load(path, {"run.seed=5"}).run().seed == 5);
}

TEST_CASE("files that extend each other in a circle are an error that names the line") {
  const TempFolder folder;
  folder.write("a.toml", "extends = [\"b.toml\"]\n");
  folder.write("b.toml", "[run]\nsteps = 1\n");
  folder.write("b.toml",
               "extends = [\"../" + std::filesystem::path(folder.path()).filename().string() + "/a.toml\"]\n");
  try {
    Config::load(folder / "a.toml");
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(contains(error.what(), "b.toml:1:12: the files extend each other in a circle"));
    CHECK(error.exit_code == 2);
  }
}

TEST_CASE("two files may extend the same third one") {
  const TempFolder folder;
  folder.write("base.toml", kGood);
  folder.write("left.toml", "extends = [\"base.toml\"]\n[run]\nseed = 3\n");
  folder.write("right.toml", "extends = [\"base.toml\"]\n[run]\nthreads = 2\n");
  const std::string path = folder.write("main.toml", "extends = [\"left.toml\", \"right.toml\"]\n");
  const Config config = Config::load(path);
  CHECK(config.run().threads == 2);
  CHECK(config.run().steps == 100);
  CHECK(config.data().size() == 1);
}

TEST_CASE("strategies and metrics are merged by use, data replaces the list") {
  const TempFolder folder;
  folder.write("base.toml", kGood);
  const std::string path = folder.write("main.toml", R"(extends = ["base.toml"]
[[parallel]]
use = "pipeline"
degree = 3
[[parallel]]
use = "tensor"
sequence = true
[[metrics]]
use = "tensorboard"
[[data]]
use = "tokens"
weight = 2
[[data]]
use = "tokens"
)");
  const Config config = Config::load(path);
  CHECK(names(config.parallel()) == std::vector<std::string>{"tensor", "pipeline", "data"});
  CHECK(config.parallel()[0].options.get_i64("degree", 0) == 2);
  CHECK(config.parallel()[0].options.get_bool("sequence", false));
  CHECK(names(config.metrics()) == std::vector<std::string>{"console", "tensorboard"});
  REQUIRE(names(config.data()) == std::vector<std::string>{"tokens", "tokens"});
  CHECK(config.data()[0].options.get_f64("weight", 1) == 2);
}

TEST_CASE("another component starts without the options of the former one and keeps the core's keys") {
  for (const bool by_set : {true, false}) {
    const TempFolder folder;
    folder.write("base.toml", kGood);
    const std::string path =
        folder.write("main.toml", std::string("extends = [\"base.toml\"]\n") +
                                      (by_set ? "" : "[optimizer]\nuse = \"lion\"\nbeta2 = 0.7\n"));
    // The order on the command line does not matter.
    const Config config =
        Config::load(path, by_set ? std::vector<std::string>{"optimizer.beta2=0.7", "optimizer.use=lion"}
                                  : std::vector<std::string>{});
    CHECK(config.optimizer().use == "lion");
    CHECK(config.optimizer().learning_rate == 1e-3);
    CHECK(config.optimizer().schedule.use == "cosine");
    CHECK_FALSE(config.optimizer_component().options.has("beta1"));
    CHECK(config.optimizer_component().options.get_f64("beta2", 0) == 0.7);
  }
}

TEST_CASE("--set reaches and adds elements of lists by their use, strategies at their place") {
  const Config config = good_config({"parallel.tensor.degree=8", "parallel.pipeline.degree=4",
                                     "parallel.recompute.mode=full", "parallel.acme.x=1", "parallel.context.degree=2",
                                     "metrics.jsonl.flush=true", "data.text.path=b.txt", "data.0.weight=3"});
  CHECK(names(config.parallel()) ==
        std::vector<std::string>{"tensor", "context", "pipeline", "data", "recompute", "acme"});
  CHECK(config.parallel()[0].options.get_i64("degree", 0) == 8);
  CHECK(names(config.metrics()) == std::vector<std::string>{"console", "jsonl"});
  CHECK(config.data().size() == 1);
  CHECK(config.data()[0].options.get_string("path", "") == "b.txt");
  CHECK(config.data()[0].options.get_f64("weight", 1) == 3);
  CHECK(config.parallel()[2].options.origin("degree") == "--set parallel.pipeline.degree=4");
}

TEST_CASE("values of --set are TOML, and strings where they are no TOML") {
  const Config config = good_config(
      {"run.name=first", "run.max_wall=1.5", "kernels.use=onednn, generic", "optimizer.schedule={use=\"linear\"}",
       "run.global_batch={start=2,end=8,tokens=1e6}", "run.sample_prompt=a \"b\" = c", "model.name = x y"});
  CHECK(config.run().name == "first");
  CHECK(config.run().max_wall == 1.5);
  CHECK(config.kernels().use == std::vector<std::string>{"onednn", "generic"});
  CHECK(config.optimizer().schedule.use == "linear");
  CHECK(config.optimizer().schedule.warmup == 10);
  CHECK(config.run().global_batch.end == 8);
  CHECK(config.run().global_batch.tokens == 1000000);
  CHECK(config.run().sample_prompt == "a \"b\" = c");
  CHECK(config.table("model").get_string("name", "") == " x y");
}

TEST_CASE("--set that cannot be is an error that shows it") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"rubbish", "--set rubbish: there is no KEY=VALUE"},
      {"=4", "there is no KEY=VALUE"},
      {"a.b\n=4", "the key is not valid"},
      {"run.step=4", "did you mean \"steps\"?"},
      {"data.7.path=x", "there is no [[data]] number 7"},
      {"extends=x", "extends cannot be set here"},
      {"run.steps=many", "run.steps must be an integer, not a string"},
      {"run=5", "run must be a table"},
      {"parallel.tensor=5", "[[parallel]]"},
  };
  for (const auto& [argument, expected] : cases) {
    CAPTURE(argument);
    CHECK(contains(error_of(kGood, {argument}), expected));
  }
}

TEST_CASE("without [[metrics]] there is the console, an empty list turns it off") {
  const std::string bare = "[run]\nsteps=1\nsequence=1\n[model]\nuse=\"gpt\"\n[[data]]\nuse=\"text\"\n";
  CHECK(names(Config::parse(bare, "a.toml").metrics()) == std::vector<std::string>{"console"});
  CHECK(Config::parse("metrics = []\n" + bare, "a.toml").metrics().empty());
  CHECK(Config::parse(bare, "a.toml", {"metrics=[]"}).metrics().empty());
  CHECK(names(Config::parse(bare, "a.toml", {"metrics.jsonl.x=1"}).metrics()) ==
        std::vector<std::string>{"console", "jsonl"});
}
