#include <catch2/catch.hpp>

#include <filesystem>

#include "core/plugin/options.h"
#include "tests/plugin/samples.h"

using namespace kumiki;
using Catch::Contains;

namespace {

const std::vector<km_option> kDeclared = {
    {"layers", KM_OPTION_I64, 0, "12", 1, 1000, nullptr, "number of layers"},
    {"beta", KM_OPTION_F64, 0, "0.9", 0, 1, nullptr, "decay of the mean"},
    {"tied", KM_OPTION_BOOL, 0, "true", 0, 0, nullptr, "share"},
    {"activation", KM_OPTION_STRING, 0, "gelu", 0, 0, "gelu|silu", "activation"},
    {"vocabulary", KM_OPTION_PATH, 0, nullptr, 0, 0, nullptr, "file"},
    {"shape", KM_OPTION_I64_LIST, 0, "[2, 3]", 0, 9, nullptr, "shape"},
    {"files", KM_OPTION_STRING_LIST, 0, "a, b", 0, 0, nullptr, "files"},
    {"shift", KM_OPTION_F64, 0, "-0.5", -1, 0, nullptr, "with an upper limit of zero"},
};

Config config_of(const std::string& model, const std::vector<std::string>& sets = {}) {
  return Config::parse("[run]\nsteps=1\nsequence=1\n[[data]]\nuse=\"d\"\n[model]\nuse=\"m\"\n" + model, "a.toml", sets);
}

OptionValues values_of(const std::string& model, const std::vector<std::string>& sets = {},
                       const std::vector<km_option>& declared = kDeclared) {
  return OptionValues("model m", "model", declared, config_of(model, sets).table("model"));
}

} // namespace

TEST_CASE("defaults stand in for what the user left out, in the order of the declaration") {
  const OptionValues values = values_of("");
  const km_options* options = values.get();
  REQUIRE(options->count == kDeclared.size());
  CHECK(options->struct_size == sizeof(km_options));
  for (size_t i = 0; i < kDeclared.size(); ++i) {
    CHECK(std::string(options->values[i].name) == kDeclared[i].name);
    CHECK(options->values[i].type == kDeclared[i].type);
    CHECK(options->values[i].given == 0);
    CHECK(options->values[i].string != nullptr);
  }
  CHECK(km_option_i64(options, "layers") == 12);
  CHECK(km_option_f64(options, "layers") == 12.0);
  CHECK(km_option_f64(options, "beta") == 0.9);
  CHECK(km_option_i64(options, "tied") == 1);
  CHECK(std::string(km_option_string(options, "activation")) == "gelu");
  CHECK(std::string(km_option_string(options, "vocabulary")).empty());
  CHECK(km_option_f64(options, "shift") == -0.5);
  const km_option_value* shape = km_find_option(options, "shape");
  REQUIRE(shape->count == 2);
  CHECK(shape->i64_list[1] == 3);
  const km_option_value* files = km_find_option(options, "files");
  REQUIRE(files->count == 2);
  CHECK(std::string(files->string_list[1]) == "b");
}

TEST_CASE("what the user wrote is handed over, and stays where it is when the object moves") {
  OptionValues made = values_of(
      "layers = 2\nbeta = 1\ntied = false\nactivation = \"silu\"\nvocabulary = \"x/../v.txt\"\n"
      "shape = [4, 5, 6]\nfiles = [\"c\"]\n",
      {"model.layers=3"});
  const km_options* before = made.get();
  const OptionValues values = std::move(made);
  const km_options* options = values.get();
  CHECK(options == before);
  CHECK(km_find_option(options, "layers")->given == 1);
  CHECK(km_option_i64(options, "layers") == 3);
  CHECK(km_option_f64(options, "beta") == 1.0);
  CHECK(km_option_i64(options, "tied") == 0);
  CHECK(std::string(km_option_string(options, "activation")) == "silu");
  CHECK(std::string(km_option_string(options, "vocabulary")) == (std::filesystem::current_path() / "v.txt").string());
  CHECK(km_find_option(options, "shape")->count == 3);
  CHECK(std::string(km_find_option(options, "files")->string_list[0]) == "c");
}

TEST_CASE("wrong options are errors with the place, and say what was meant") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"layer = 3\n",
       "a.toml:8:1: model m has no option \"layer\"\n  8 | layer = 3\n    | ^^^^^\n  did you mean \"layers\"?"},
      {"xyzzy = 3\n", "known: layers, beta"},
      {"layers = 0\n", "a.toml:8:10: model.layers = 0 is out of range: from 1 to 1000"},
      {"layers = 2.5\n", "must be a whole number"},
      {"beta = \"x\"\n", "model.beta must be a number, not a string"},
      {"beta = 1.5\n", "is out of range: from 0 to 1"},
      {"shift = 0.5\n", "is out of range: from -1 to 0"},
      {"tied = 1\n", "must be true or false"},
      {"activation = \"relu\"\n", "\"relu\" is not one of gelu, silu"},
      {"shape = [1, 10]\n", "holds 10, which is out of range: from 0 to 9"},
      {"shape = [1, \"a\"]\n", "must be an integer"},
      {"files = [1]\n", "must be a list of strings"},
      {"layers = { a = 1 }\n", "must be an integer, not a table"},
  };
  for (const auto& [text, expected] : cases) {
    CAPTURE(text);
    CHECK_THAT(error_text([&] { values_of(text); }), Contains(expected));
  }
  CHECK_THAT(error_text([&] { values_of("", {"model.layer=3"}); }),
             Contains("--set model.layer=3: model m has no option"));
}

TEST_CASE("what was meant is said also where the right name is there too, and core keys are among the names") {
  CHECK_THAT(error_text([&] { values_of("layers = 2\n", {"model.layer=3"}); }), Contains("did you mean \"layers\"?"));
  const Table data =
      Config::parse("[run]\nsteps=1\nsequence=1\n[model]\nuse=\"m\"\n[[data]]\nuse=\"d\"\nwieght=2\n", "a.toml")
          .data()[0]
          .options;
  CHECK_THAT(error_text([&] { OptionValues("data d", "data", kDeclared, data); }),
             Contains("did you mean \"weight\"?"));
}

TEST_CASE("a required option that is missing points at the table") {
  std::vector<km_option> declared = kDeclared;
  declared.push_back({"width", KM_OPTION_I64, KM_OPTION_REQUIRED, nullptr, 0, 0, nullptr, "width of a token"});
  CHECK_THAT(error_text([&] { values_of("", {}, declared); }),
             Contains("a.toml:6:1: model m: option `width` is required: width of a token\n  6 | [model]"));
  CHECK_NOTHROW(values_of("width = 3\n", {}, declared));
}

TEST_CASE("an option of a type from a later ABI is refused, not misread") {
  std::vector<km_option> declared = kDeclared;
  declared.push_back({"future", 77, 0, nullptr, 0, 0, nullptr, ""});
  CHECK_THAT(error_text([&] { values_of("", {}, declared); }),
             Contains("of a type that this kumiki does not know (77)"));
}

TEST_CASE("the components of a configuration are checked, each error at its place") {
  const TempFolder folder;
  copy_sample(folder, "good", "sample");
  const auto check_of = [&](const std::string& metrics) {
    const Config config =
        Config::parse("[run]\nsteps=1\nsequence=1\n[model]\nuse=\"m\"\n[[data]]\nuse=\"d\"\n" + metrics, "a.toml");
    return error_text([&] {
      Registry registry({folder.path()});
      for (const ComponentUse& use : config.metrics()) OptionValues(registry.find(use), use.options);
    });
  };
  CHECK(check_of("[[metrics]]\nuse = \"sample\"\nfile = \"x\"\n") == "no error");
  CHECK_THAT(check_of("[[metrics]]\nuse = \"smaple\"\n"),
             Contains("a.toml:9:7: there is no metrics component \"smaple\"\n  9 | use = \"smaple\"") &&
                 Contains("did you mean \"sample\"?"));
  CHECK_THAT(check_of("[[metrics]]\nuse = \"sample\"\nfil = \"x\"\n"),
             Contains("a.toml:10:1: metrics sample has no option \"fil\"") && Contains("did you mean \"file\"?"));
  const Config config =
      Config::parse("[run]\nsteps=1\nsequence=1\n[model]\nuse=\"m\"\n[[data]]\nuse=\"d\"\n", "a.toml");
  Registry registry({folder.path()});
  CHECK_THROWS_WITH(check_components(config, registry), Contains("a.toml:5:5: there is no model component \"m\""));
}
