// What every data component promises of its samples, on the `text` and `synthetic` components.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdio>
#include <map>
#include <set>
#include <string>

#include "tests/data/data_set.h"

namespace kumiki::test {
namespace {

// A text in which each place can be told from its neighbours: "0000 0001 0002 …".
std::string numbered_text(int count) {
  std::string text;
  char word[8];
  for (int i = 0; i < count; ++i) text.append(word, static_cast<size_t>(std::snprintf(word, sizeof word, "%04d ", i)));
  return text;
}

std::string text_of(const Sample& sample) { return {sample.tokens.begin(), sample.tokens.end()}; }

} // namespace

TEST_CASE("the same number is the same sample, whatever order is asked and however many at once") {
  const TemporaryFolder folder;
  const std::string path = folder.write("a.txt", numbered_text(400));
  const std::string component = GENERATE("text", "synthetic");
  const std::map<std::string, std::string> options =
      component == "text" ? std::map<std::string, std::string>{{"path", path}} : std::map<std::string, std::string>{};
  DataSet data(component, options), other(component, options);
  REQUIRE(data.status() == KM_OK);
  const std::vector<Sample> together = data.read(0, 1500);
  for (const int64_t number : {1499, 0, 700, 701, 3, 1200})
    CHECK(other.sample(number) == together[static_cast<size_t>(number)]);
  CHECK(data.read(1000, 5) == std::vector<Sample>(together.begin() + 1000, together.begin() + 1005));
}

TEST_CASE("targets are the next tokens") {
  const TemporaryFolder folder;
  const std::string text = numbered_text(100);
  DataSet data("text", {{"path", folder.write("a.txt", text)}, {"split", "1"}}, {.sequence = 7});
  for (int64_t number = 0; number < data.info().samples; ++number) {
    const Sample sample = data.sample(number);
    const std::string window = text_of(sample) + static_cast<char>(sample.targets.back());
    CHECK(text.find(window) != std::string::npos);
    CHECK(std::equal(sample.tokens.begin() + 1, sample.tokens.end(), sample.targets.begin()));
    CHECK(sample.segments == std::vector<int32_t>(7, 0));
  }
}

TEST_CASE("one epoch has each window once, and the next epoch the same windows in another order") {
  const TemporaryFolder folder;
  DataSet data("text", {{"path", folder.write("a.txt", numbered_text(333))}, {"split", "1"}}, {.sequence = 8});
  const int64_t samples = data.info().samples;
  REQUIRE(samples == (333 * 5 - 1) / 8);
  CHECK(data.info().tokens == samples * 8);
  std::vector<std::string> first, second;
  for (const Sample& sample : data.read(0, samples)) first.push_back(text_of(sample));
  for (const Sample& sample : data.read(samples, samples)) second.push_back(text_of(sample));
  CHECK(first != second);
  CHECK(std::set<std::string>(first.begin(), first.end()).size() == static_cast<size_t>(samples));
  CHECK_FALSE(std::is_sorted(first.begin(), first.end()));
  std::sort(first.begin(), first.end());
  std::sort(second.begin(), second.end());
  CHECK(first == second);
}

TEST_CASE("without shuffle the samples come in the order of the text") {
  const TemporaryFolder folder;
  const std::string text = numbered_text(50);
  DataSet data("text", {{"path", folder.write("a.txt", text)}, {"split", "1"}, {"shuffle", "false"}}, {.sequence = 10});
  std::string read;
  for (const Sample& sample : data.read(0, data.info().samples)) read += text_of(sample);
  CHECK(read == text.substr(0, read.size()));
}

TEST_CASE("another seed is another order of the same windows") {
  const TemporaryFolder folder;
  const std::string path = folder.write("a.txt", numbered_text(400));
  DataSet one("text", {{"path", path}}, {.seed = 1}), two("text", {{"path", path}}, {.seed = 2});
  CHECK_FALSE(one.read(0, 20) == two.read(0, 20));
}

TEST_CASE("the parts of a split are disjoint and cover the text") {
  const TemporaryFolder folder;
  const std::string text = numbered_text(300);
  const std::string path = folder.write("a.txt", text);
  std::string covered;
  for (const uint32_t split : {KM_SPLIT_TRAIN, KM_SPLIT_VALIDATION, KM_SPLIT_TEST}) {
    DataSet data("text", {{"path", path}, {"split", "80, 15, 5"}, {"shuffle", "false"}},
                 {.split = split, .sequence = 1});
    REQUIRE(data.status() == KM_OK);
    for (const Sample& sample : data.read(0, data.info().samples)) covered += text_of(sample);
    covered += static_cast<char>(data.sample(data.info().samples - 1).targets.back());
  }
  CHECK(covered == text);
}

TEST_CASE("synthetic keeps its vocabulary, its splits apart, and to its chain when there is no noise") {
  DataSet data("synthetic", {{"vocabulary", "50"}, {"noise", "0"}}, {.sequence = 64});
  DataSet held_out("synthetic", {{"vocabulary", "50"}, {"noise", "0"}}, {.split = KM_SPLIT_VALIDATION, .sequence = 64});
  CHECK(data.info().vocabulary == 50);
  CHECK(data.info().samples == 0);
  std::map<int32_t, std::map<int32_t, int>> followers;
  std::vector<int> often(50);
  for (const Sample& sample : data.read(0, 400))
    for (size_t t = 0; t < sample.tokens.size(); ++t) {
      REQUIRE((sample.tokens[t] >= 0 && sample.tokens[t] < 50));
      ++followers[sample.tokens[t]][sample.targets[t]];
      ++often[static_cast<size_t>(sample.tokens[t])];
    }
  for (const auto& [token, after] : followers) CHECK(after.size() <= 4);
  CHECK(*std::min_element(often.begin(), often.end()) > 400 * 64 / 50 / 2);
  CHECK_FALSE(data.read(0, 10) == held_out.read(0, 10));
  for (const Sample& sample : held_out.read(0, 20))
    for (size_t t = 0; t < sample.tokens.size(); ++t) CHECK(followers[sample.tokens[t]].count(sample.targets[t]) == 1);
}

TEST_CASE("synthetic says the loss that the best model has") {
  // The chain's own probabilities, counted: the mean surprise of what follows is the entropy that the log line gives.
  DataSet data("synthetic", {{"vocabulary", "8"}, {"noise", "0.25"}}, {.sequence = 128});
  REQUIRE(data.host().log_lines().size() == 1);
  const std::string& line = data.host().log_lines()[0];
  const double said = std::stod(line.substr(line.find("below ") + 6));
  double pairs[8][8] = {}, singles[8] = {}, all = 0;
  for (const Sample& sample : data.read(0, 4000))
    for (size_t t = 0; t < sample.tokens.size(); ++t, ++all)
      ++pairs[sample.tokens[t]][sample.targets[t]], ++singles[sample.tokens[t]];
  double entropy = 0;
  for (int a = 0; a < 8; ++a)
    for (int b = 0; b < 8; ++b)
      if (pairs[a][b] > 0) entropy -= pairs[a][b] / all * std::log(pairs[a][b] / singles[a]);
  CHECK(entropy == Approx(said).margin(0.003));
}

TEST_CASE("synthetic takes no token that the model does not have") {
  DataSet fitted("synthetic", {}, {.vocabulary = 100});
  CHECK(fitted.info().vocabulary == 100);
  DataSet refused("synthetic", {{"vocabulary", "300"}}, {.vocabulary = 100});
  CHECK(refused.status() == KM_ERROR_USER);
  CHECK(refused.error() ==
        "the data has tokens 0 to 299, the model's vocabulary is 100: raise model.vocabulary, or leave it out");
}

} // namespace kumiki::test
