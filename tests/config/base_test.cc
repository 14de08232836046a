// What the lowest floor gives: random numbers, hashes, suggestions, files.
#include <catch2/catch.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <functional>
#include <set>

#include "core/base/clock.h"
#include "core/base/fs.h"
#include "core/base/hash.h"
#include "core/base/philox.h"
#include "core/base/suggest.h"
#include "tests/config/temp_folder.h"

using namespace kumiki;

TEST_CASE("Philox4x32-10 gives the known answers of its authors") {
  CHECK(philox4x32_10({0, 0, 0, 0}, {0, 0}) == PhiloxCounter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox4x32_10({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}) ==
        PhiloxCounter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox4x32_10({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        PhiloxCounter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("uniform draws lie inside (0, 1) and have the moments of the uniform distribution") {
  const Philox random(1, 2);
  double sum = 0, squares = 0;
  constexpr int kDraws = 1 << 20;
  for (int i = 0; i < kDraws; ++i) {
    const double u = random.uniform(static_cast<uint64_t>(i));
    REQUIRE(u > 0);
    REQUIRE(u < 1);
    sum += u, squares += u * u;
  }
  CHECK(sum / kDraws == Approx(0.5).margin(0.002));
  CHECK(squares / kDraws == Approx(1.0 / 3).margin(0.002));
}

TEST_CASE("normal draws have the moments of the normal distribution, also between the elements of a pair") {
  const Philox random(42, xxh3("layers.0.attention.query.weight"));
  double moments[5] = {}, pairs = 0;
  constexpr int kDraws = 1 << 20;
  for (int i = 0; i < kDraws; ++i) {
    const double x = random.normal(static_cast<uint64_t>(i));
    REQUIRE(std::isfinite(x));
    for (int k = 1; k <= 4; ++k) moments[k] += std::pow(x, k) / kDraws;
    pairs += x * random.normal(static_cast<uint64_t>(i) ^ 1) / kDraws;
  }
  CHECK(moments[1] == Approx(0).margin(0.004));
  CHECK(moments[2] == Approx(1).margin(0.006));
  CHECK(moments[3] == Approx(0).margin(0.012));
  CHECK(moments[4] == Approx(3).margin(0.05));
  CHECK(pairs == Approx(0).margin(0.006));
}

TEST_CASE("other seeds and purposes give other numbers, large indices too") {
  std::set<uint32_t> seen;
  for (const uint64_t seed : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 32}) {
    for (const uint64_t purpose : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 32}) {
      for (const uint64_t index : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 34, uint64_t{1} << 40}) {
        seen.insert(Philox(seed, purpose).bits(index));
      }
    }
  }
  CHECK(seen.size() == 36);
  for (uint64_t i = 0; i < 1000; ++i) CHECK(Philox(3, 4).below(i, 7) < 7);
}

TEST_CASE("SHA-256 gives the known answers of FIPS 180-4") {
  CHECK(sha256_hex("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha256_hex("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  Sha256 pieces;
  const std::string piece(997, 'a');
  for (int left = 1000000; left > 0; left -= 997) pieces.add(piece.data(), static_cast<size_t>(std::min(left, 997)));
  CHECK(pieces.hex() == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("XXH3 is the published one, whole or in pieces") {
  CHECK(hex64(xxh3("")) == "2d06800538d394c2");
  const std::string text(100000, 'k');
  Xxh3 pieces;
  for (size_t at = 0; at < text.size(); at += 777)
    pieces.add(text.data() + at, std::min<size_t>(777, text.size() - at));
  CHECK(pieces.digest() == xxh3(text));
}

TEST_CASE("suggestions are near, and nothing where nothing is near") {
  const std::vector<std::string> names = {"layers", "width", "heads", "key_heads"};
  CHECK(edit_distance("widht", "width") == 1);
  CHECK(edit_distance("", "abc") == 3);
  CHECK(edit_distance("kitten", "sitting") == 3);
  CHECK(nearest("widht", names) == "width");
  CHECK(nearest("layer", names) == "layers");
  CHECK(nearest("zzz", names).empty());
  CHECK(suggestion("zzz", names) == "known: layers, width, heads, key_heads");
  CHECK(suggestion("zzz", {}).empty());
}

TEST_CASE("the real file system does what the interface says") {
  const TempFolder folder;
  Fs& fs = real_fs();
  const std::string inner = folder / "a/b/c";
  fs.make_folders(inner);
  fs.make_folders(inner);
  CHECK(fs.is_folder(inner));
  {
    const std::unique_ptr<FileWriter> file = fs.create(inner + "/x");
    file->write("hello ", 6);
    file->write("world", 5);
    file->write(nullptr, 0);
    file->sync();
    file->close();
    file->close();
  }
  CHECK(fs.read(inner + "/x") == "hello world");
  CHECK(fs.file_bytes(inner + "/x") == 11);
  CHECK(fs.free_bytes(inner) > 0);
  const std::unique_ptr<FileMapping> mapping = fs.map(inner + "/x");
  write_file(fs, inner + "/x", "other");
  CHECK(std::string(reinterpret_cast<const char*>(mapping->data()), mapping->bytes()) == "hello world");
  CHECK(fs.read(inner + "/x") == "other");
  write_file(fs, inner + "/empty", "");
  CHECK(fs.map(inner + "/empty")->bytes() == 0);
  CHECK(fs.list(inner) == std::vector<std::string>{"empty", "x"});
  fs.rename(inner, folder / "moved");
  fs.sync_folder(folder.path());
  CHECK_FALSE(fs.exists(inner));
  CHECK(fs.exists(folder / "moved/x"));
  // Links are removed, not followed.
  REQUIRE(::symlink((folder / "moved").c_str(), (folder / "a/link").c_str()) == 0);
  fs.remove(folder / "a");
  CHECK(fs.exists(folder / "moved/x"));
  fs.remove(folder / "a");
  CHECK(fs.list(folder.path()) == std::vector<std::string>{"moved"});
}

TEST_CASE("what the file system refuses is an Error with the path and exit code 6") {
  const TempFolder folder;
  Fs& fs = real_fs();
  const std::string absent = folder / "absent/x", file = folder.write("file", "1");
  const std::vector<std::function<void()>> attempts = {
      [&] { fs.create(absent); },       [&] { fs.map(absent); },         [&] { fs.read(absent); },
      [&] { fs.read(folder.path()); },  [&] { fs.file_bytes(absent); },  [&] { fs.list(absent); },
      [&] { fs.rename(absent, file); }, [&] { fs.sync_folder(absent); }, [&] { fs.make_folders(file + "/x"); },
  };
  for (size_t i = 0; i < attempts.size(); ++i) {
    CAPTURE(i);
    try {
      attempts[i]();
      FAIL("no error");
    } catch (const Error& error) {
      CHECK(error.exit_code == 6);
      CHECK(std::string(error.what()).find(folder.path()) == 0);
    }
  }
  if (::access("/dev/full", W_OK) == 0) {
    const std::unique_ptr<FileWriter> full = fs.create("/dev/full");
    CHECK_THROWS_WITH(full->write("x", 1), Catch::Contains("/dev/full: cannot write: No space left on device"));
  }
}

TEST_CASE("the clock does not go back") {
  const double before = real_clock().seconds();
  real_clock().sleep(0.001);
  CHECK(real_clock().seconds() >= before + 0.001);
  CHECK(real_clock().unix_seconds() > 1'700'000'000);
}
