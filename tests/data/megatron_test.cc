// The component `megatron`: pairs that Megatron-core's own writer made (tests/oracle/data_megatron.py), large made-up
// ones, packing, segments, splits, damaged files.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <set>

#include "tests/data/data_set.h"

namespace kumiki::test {
namespace {

const std::string kGolden = "tests/data/golden/";

template <typename Number>
void append(std::string& bytes, Number number) {
  bytes.append(reinterpret_cast<const char*>(&number), sizeof number);
}

// A pair with one sequence a document, of u16.
struct Pair {
  std::string bin, idx;

  explicit Pair(const std::vector<std::vector<int>>& documents) {
    idx = std::string("MMIDIDX\0\0", 9);
    append<uint64_t>(idx, 1);
    append<uint8_t>(idx, 8);
    append<uint64_t>(idx, documents.size());
    append<uint64_t>(idx, documents.size() + 1);
    std::string pointers, entries;
    for (const auto& document : documents) {
      append(idx, static_cast<int32_t>(document.size()));
      append<int64_t>(pointers, static_cast<int64_t>(bin.size()));
      append<int64_t>(entries, static_cast<int64_t>(entries.size() / 8));
      for (const int token : document) append(bin, static_cast<uint16_t>(token));
    }
    append<int64_t>(entries, static_cast<int64_t>(documents.size()));
    idx += pointers + entries;
  }
  std::string write(const TemporaryFolder& folder, const std::string& name = "pair") const {
    folder.write(name + ".bin", bin);
    folder.write(name + ".idx", idx);
    return folder.path() + "/" + name;
  }
};

// Document d is d, repeated 1 + d % 5 times; tokens stay below 65536.
std::vector<std::vector<int>> counted_documents(int count) {
  std::vector<std::vector<int>> documents;
  for (int d = 0; d < count; ++d) documents.emplace_back(static_cast<size_t>(1 + d % 5), d % 65536);
  return documents;
}

std::vector<int> stream(DataSet& data, int64_t epoch = 0) {
  INFO(data.error());
  REQUIRE(data.status() == KM_OK);
  const int64_t samples = data.info().samples;
  std::vector<int> tokens;
  for (const Sample& sample : data.read(epoch * samples, samples))
    tokens.insert(tokens.end(), sample.tokens.begin(), sample.tokens.end());
  tokens.push_back(data.sample(epoch * samples + samples - 1).targets.back());
  return tokens;
}

std::map<std::string, std::string> in_order(const std::string& path) {
  return {{"path", path}, {"split", "1"}, {"shuffle", "false"}, {"vocabulary", "65536"}};
}

std::string open_error(const std::map<std::string, std::string>& options, Run run = {}) {
  DataSet data("megatron", options, run);
  CHECK(data.status() == KM_ERROR_USER);
  return data.error();
}

} // namespace

TEST_CASE("a pair that Megatron-core wrote gives its tokens, packed over documents and sequences") {
  const std::vector<int> expected = {1, 2, 3, 40, 50, 60, 70, 80, 90, 500, 7, 8, 9, 10, 11, 12, 13};
  const std::string name = GENERATE("megatron_u16", "megatron_i32", "megatron_u16.bin", "megatron_i32.idx");
  const int64_t sequence = GENERATE(1, 2, 4, 16);
  DataSet data("megatron", in_order(kGolden + name), {.sequence = sequence});
  CHECK(stream(data) == expected);
}

TEST_CASE("segments keep documents apart, sequences of one document together") {
  auto options = in_order(kGolden + "megatron_u16");
  options["segments"] = "true";
  DataSet data("megatron", options, {.sequence = 16});
  REQUIRE(data.status() == KM_OK);
  CHECK(data.info().segments == 1);
  const Sample sample = data.sample(0);
  CHECK(sample.tokens == std::vector<int32_t>{1, 2, 3, 40, 50, 60, 70, 80, 90, 500, 7, 8, 9, 10, 11, 12});
  CHECK(sample.targets == std::vector<int32_t>{2, 3, -1, 50, 60, 70, 80, 90, -1, -1, 8, 9, 10, 11, 12, 13});
  CHECK(sample.segments == std::vector<int32_t>{0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 3, 3, 3, 3, 3, 3});
}

TEST_CASE("an epoch has every document once, whole, in a new order; samples have an order of their own") {
  const TemporaryFolder folder;
  // 200 000 documents are more than the blocks that are shuffled: both levels are at work.
  const int count = GENERATE(300, 200000);
  const auto documents = counted_documents(count);
  const std::string path = Pair(documents).write(folder);
  // One sample that is the whole epoch: the order of documents stands in it.
  int64_t total = 0;
  for (const auto& document : documents) total += static_cast<int64_t>(document.size());
  DataSet data("megatron", {{"path", path}, {"split", "1"}, {"segments", "true"}, {"vocabulary", "65536"}},
               {.sequence = total - 1});
  REQUIRE(data.status() == KM_OK);
  REQUIRE(data.info().samples == 1);
  std::vector<std::vector<std::vector<int>>> epochs;
  for (int64_t epoch = 0; epoch < 2; ++epoch) {
    const Sample sample = data.sample(epoch);
    std::vector<std::vector<int>> seen(static_cast<size_t>(sample.segments.back()) + 1);
    for (size_t t = 0; t < sample.tokens.size(); ++t)
      seen[static_cast<size_t>(sample.segments[t])].push_back(sample.tokens[t]);
    // The last token of all is a target only.
    const int32_t last = sample.targets.back();
    if (last >= 0)
      seen.back().push_back(last);
    else
      seen.push_back({}); // a document of one token, cut off by segments
    epochs.push_back(seen);
  }
  CHECK(epochs[0] != epochs[1]);
  for (auto& seen : epochs) {
    auto sorted = documents;
    if (seen.back().empty()) {
      // Its token is the one that is missing.
      seen.pop_back();
      std::sort(seen.begin(), seen.end());
      std::sort(sorted.begin(), sorted.end());
      std::vector<std::vector<int>> missing;
      std::set_difference(sorted.begin(), sorted.end(), seen.begin(), seen.end(), std::back_inserter(missing));
      CHECK(missing.size() == 1);
      CHECK(missing.at(0).size() == 1);
    } else {
      std::sort(seen.begin(), seen.end());
      std::sort(sorted.begin(), sorted.end());
      CHECK(seen == sorted);
    }
  }
}

TEST_CASE("short samples are the windows of the epoch's stream of documents, each once") {
  const TemporaryFolder folder;
  const std::string path = Pair(counted_documents(500)).write(folder);
  const std::map<std::string, std::string> options = {{"path", path}, {"split", "1"}, {"vocabulary", "65536"}};
  DataSet data("megatron", options, {.sequence = 7}), other("megatron", options, {.sequence = 7});
  const int64_t samples = data.info().samples;
  REQUIRE(samples == (1500 - 1) / 7);
  std::multiset<int> seen;
  std::vector<Sample> together = data.read(0, samples);
  for (const Sample& sample : together) seen.insert(sample.tokens.begin(), sample.tokens.end());
  for (int d = 0; d < 500; ++d) CHECK(seen.count(d) <= static_cast<size_t>(1 + d % 5));
  CHECK(seen.size() == static_cast<size_t>(samples * 7));
  // Any order of asking, over epochs too.
  for (const int64_t number : {samples * 3 + 5, int64_t{9}, samples - 1, samples, int64_t{0}})
    CHECK(other.sample(number) == data.sample(number));
  CHECK(other.sample(17) == together[17]);
}

TEST_CASE("splits are by documents, with the bounds of Megatron-core") {
  // Printed by tests/oracle/data_megatron.py: split, documents, then begin and end of the three parts.
  struct Case {
    const char* split;
    int documents, bounds[6];
  };
  const Case cases[] = {
      {"969,30,1", 50, {0, 48, 48, 50, 50, 50}},
      {"969,30,1", 1000, {0, 969, 969, 999, 999, 1000}},
      {"969,30,1", 12345, {0, 11962, 11962, 12333, 12333, 12345}},
      {"98,2,0", 50, {0, 49, 49, 50, 0, 0}},
      {"98,2,0", 12345, {0, 12098, 12098, 12345, 0, 0}},
      {"1,1,1", 5, {0, 2, 2, 3, 3, 5}},
      {"1,1,1", 12345, {0, 4115, 4115, 8230, 8230, 12345}},
      {"99,1,0", 50, {0, 50, 50, 50, 0, 0}},
      {"99,1,0", 1000, {0, 990, 990, 1000, 0, 0}},
  };
  for (const Case& c : cases) {
    const TemporaryFolder folder;
    std::vector<std::vector<int>> documents;
    for (int d = 0; d < c.documents; ++d) documents.push_back({d, d});
    auto options = in_order(Pair(documents).write(folder));
    options["split"] = c.split;
    for (uint32_t split = 0; split < 3; ++split) {
      INFO(c.split << " of " << c.documents << " part " << split);
      const int begin = c.bounds[2 * split], end = c.bounds[2 * split + 1];
      if (begin == end) {
        CHECK(open_error(options, {.split = split, .sequence = 1}).find("has none of the") != std::string::npos);
        continue;
      }
      DataSet data("megatron", options, {.split = split, .sequence = 1});
      const std::vector<int> tokens = stream(data);
      CHECK(tokens.front() == begin);
      CHECK(tokens.back() == end - 1);
      CHECK(tokens.size() == static_cast<size_t>(2 * (end - begin)));
    }
  }
}

TEST_CASE("damaged pairs are refused at open in words that name them") {
  const TemporaryFolder folder;
  const Pair good(counted_documents(40));
  const auto error_of = [&](Pair pair) {
    const std::string path = pair.write(folder);
    const std::string error = open_error({{"path", path}, {"vocabulary", "65536"}});
    REQUIRE(error.find(path) == 0);
    return error.substr(path.size());
  };
  const auto changed = [&](size_t at, auto number) {
    Pair pair = good;
    std::memcpy(pair.idx.data() + at, &number, sizeof number);
    return pair;
  };
  const size_t pointers = 34 + 40 * 4, entries = pointers + 40 * 8;
  CHECK(error_of(changed(0, 'x')) == ".idx: does not begin with MMIDIDX: it is no index of Megatron-LM");
  CHECK(error_of(changed(9, uint64_t{2})) == ".idx: is version 2 of the format, only 1 is known");
  CHECK(error_of(changed(17, uint8_t{7})) == ".idx: its tokens are floating-point numbers (type code 7)");
  CHECK(error_of(changed(17, uint8_t{99})).find(".idx: unknown type code 99") == 0);
  for (const size_t at : {18, 26})
    for (const int64_t number : {int64_t{42}, int64_t{-1}, int64_t{1} << 62, INT64_MIN})
      CHECK(error_of(changed(at, number)).find(".idx: has 842 bytes, which is not what") == 0);
  CHECK(error_of(changed(entries - 8, int64_t{1} << 40)).find(".idx: its last sequence is 5 tokens at byte") == 0);
  CHECK(
      error_of(changed(entries, int64_t{3})).find(".idx: its documents are sequences 3 to 40, but there are 0 to 40") ==
      0);
  Pair cut = good;
  cut.bin.pop_back();
  CHECK(error_of(cut) == ".idx: its last sequence is 5 tokens at byte 230, but " + folder.path() +
                             "/pair.bin has 239 bytes: the two are not a pair, or one is cut off or damaged");
  cut = good;
  cut.idx.resize(20);
  CHECK(error_of(cut) == ".idx: is cut off: 20 bytes, the header alone has 34");
  CHECK(error_of(Pair({})) == ".idx: the data set is empty: there is no document in it");
  CHECK(open_error({{"path", folder.path() + "/none"}}) ==
        folder.path() + "/none.idx: cannot be opened: No such file or directory");
}

TEST_CASE("pointers that are wrong in the middle are found when they are used, and never read outside") {
  const TemporaryFolder folder;
  const Pair good(counted_documents(40));
  const size_t pointers = 34 + 40 * 4, entries = pointers + 40 * 8;
  for (const bool in_entries : {false, true})
    for (const int64_t wrong : {int64_t{-2}, int64_t{1} << 50, int64_t{3}, int64_t{0}, int64_t{238}}) {
      Pair pair = good;
      std::memcpy(pair.idx.data() + (in_entries ? entries : pointers) + 20 * 8, &wrong, sizeof wrong);
      DataSet data("megatron", in_order(pair.write(folder)), {.sequence = 119});
      INFO(in_entries << " " << wrong);
      if (data.status() == KM_OK) data.read(0, 1);
      CHECK(data.status() == KM_ERROR_USER);
      CHECK(data.error().find("the index") != std::string::npos);
    }
}

TEST_CASE("a pair whose vocabulary nobody says is refused") {
  CHECK(open_error({{"path", kGolden + "megatron_u16"}}).find("the format does not say how large the vocabulary is") !=
        std::string::npos);
  auto options = in_order(kGolden + "megatron_u16");
  options["vocabulary"] = "500";
  DataSet data("megatron", options, {.sequence = 16});
  data.read(0, 1);
  CHECK(data.error().find("megatron_u16.bin: token number 9 is outside of the vocabulary 0 to 499") !=
        std::string::npos);
}

} // namespace kumiki::test
