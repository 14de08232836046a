// The feed: several data sets blended by weight, addressed by the number of the sample in the run; reading ahead changes
// nothing. The two sets are told apart by their vocabularies: tokens of 32 and above can only come from the larger one.
#include <catch2/catch.hpp>

#include <algorithm>

#include "core/run/feed.h"

using namespace kumiki;

namespace {

constexpr int64_t kSequence = 16;

Config blend(const std::string& first, const std::string& second) {
  return Config::parse(
      "[run]\nsteps = 1\nsequence = 16\n[model]\nuse = \"gpt\"\n[optimizer]\nuse = \"adamw\"\n"
      "learning_rate = 1e-3\n[[data]]\nuse = \"synthetic\"\nvocabulary = 32\nweight = " +
          first + "\n[[data]]\nuse = \"synthetic\"\nvocabulary = 4096\nweight = " + second + "\n",
      "blend.toml");
}

// Which of the two sets a row comes from. A row of the larger set without a token of 32 or more does not happen.
bool from_second(const BatchRows& rows, int64_t row) {
  const auto begin = rows.tokens.begin() + row * kSequence;
  return std::any_of(begin, begin + kSequence, [](int32_t t) { return t >= 32; });
}

} // namespace

TEST_CASE("samples are blended by weight, and their number alone says what they are") {
  ::setenv("KUMIKI_PLUGINS", "plugins", 0);
  struct Case {
    const char *first, *second;
    int64_t second_of_1000;
  };
  for (const Case& c : {Case{"0.7", "0.3", 300}, Case{"1", "1", 500}, Case{"1", "3", 750}, Case{"1", "0", 0}}) {
    const Config config = blend(c.first, c.second);
    Registry registry(config);
    Host host;
    Feed feed(host, registry, config, KM_SPLIT_TRAIN, 4096);
    CHECK(feed.vocabulary() == 4096);
    BatchRows all;
    feed.read(0, 1000, all);
    int64_t second = 0;
    for (int64_t row = 0; row < 1000; ++row) {
      second += from_second(all, row);
      // Never further than one sample from what the weights ask for, at any time.
      CHECK(std::abs(static_cast<double>(second) - static_cast<double>((row + 1) * c.second_of_1000) / 1000) <= 1.0);
    }
    CHECK(second == c.second_of_1000);
    for (int64_t first : {990, 0, 17, 500, 16}) {
      BatchRows part;
      feed.read(first, 10, part);
      CHECK(std::equal(part.tokens.begin(), part.tokens.end(), all.tokens.begin() + first * kSequence));
      CHECK(std::equal(part.targets.begin(), part.targets.end(), all.targets.begin() + first * kSequence));
    }
  }
}

TEST_CASE("what was read ahead is what would have been read") {
  ::setenv("KUMIKI_PLUGINS", "plugins", 0);
  const Config config = blend("0.7", "0.3");
  Registry registry(config);
  Host host;
  Feed plain(host, registry, config, KM_SPLIT_TRAIN, 4096);
  Feed fed(host, registry, config, KM_SPLIT_TRAIN, 4096);
  Prefetch prefetch(fed);
  for (int64_t sample = 0; sample < 200; sample += 8) {
    BatchRows expected;
    plain.read(sample, 8, expected);
    const BatchRows rows = prefetch.get(sample, 8);
    CHECK(rows.tokens == expected.tokens);
    CHECK(rows.targets == expected.targets);
    // Every third time another batch is asked for than the one that was announced.
    prefetch.ahead(sample % 24 == 0 ? sample + 1000 : sample + 8, 8);
  }
}
