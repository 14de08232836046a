// What `kumiki data tokenize` stands on: documents of text files, the writer of .bin/.idx pairs, and both with a
// tokenizer between them. The pairs are read again by the component `megatron` and compared with what `text` reads.
#include <zlib.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <functional>
#include <set>

#include "core/base/error.h"
#include "core/base/fs.h"
#include "core/cli/data_documents.h"
#include "core/cli/data_tokenize.h"
#include "core/cli/data_writer.h"
#include "tests/data/data_set.h"

namespace kumiki::test {
namespace {

const std::string kModel = "tests/data/golden/tiny.model";

std::string error_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

// Documents with their places.
std::vector<std::string> documents(const std::vector<std::string>& inputs, DocumentForm form,
                                   const std::string& key = "text") {
  DocumentReader reader(inputs, form, key);
  std::vector<std::string> all;
  std::string document;
  for (TextPiece piece; reader.next(piece);) {
    document += piece.text;
    if (!piece.ends_document) continue;
    all.push_back(document);
    document.clear();
  }
  CHECK(document.empty());
  CHECK(reader.bytes_read() == reader.bytes());
  return all;
}

void write_pair(const std::vector<std::string>& inputs, const std::string& prefix, const std::string& model,
                unsigned threads) {
  DataSet tokenizer("tokenizer", {{"tokenizer", model}});
  REQUIRE(tokenizer.status() == KM_OK);
  DocumentReader reader(inputs, DocumentForm::kFile, "");
  MegatronWriter writer(real_fs(), prefix, tokenizer.info().vocabulary);
  tokenize(reader, writer, {tokenizer.tokenizer(), tokenizer.self(), "data tokenizer", threads, true}, [] {});
  writer.finish();
}

std::vector<int32_t> stream(const std::string& component, std::map<std::string, std::string> options) {
  options["split"] = "1";
  options["shuffle"] = "false";
  DataSet data(component, options, {.sequence = 1});
  INFO(data.error());
  REQUIRE(data.status() == KM_OK);
  std::vector<int32_t> tokens;
  for (const Sample& sample : data.read(0, data.info().samples)) tokens.push_back(sample.tokens[0]);
  tokens.push_back(data.sample(data.info().samples - 1).targets[0]);
  return tokens;
}

std::set<std::string> names_in(const std::string& folder) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) names.insert(entry.path().filename());
  return names;
}

} // namespace

TEST_CASE("the writer's bytes are those of Megatron-core's") {
  const std::string name = GENERATE("plain_u16", "plain_i32");
  const TemporaryFolder folder;
  MegatronWriter writer(real_fs(), folder.path() + "/new/pair", name == "plain_u16" ? 65499 : 65500);
  const int32_t first[] = {1, 2, 3}, second[] = {40, 50, 60}, third[] = {500};
  writer.add(first, 3);
  writer.end_document();
  writer.end_document(); // nothing in between: no document
  writer.add(second, 1);
  writer.add(second + 1, 2);
  writer.end_document();
  writer.add(third, 1);
  writer.end_document();
  CHECK(names_in(folder.path() + "/new").count("pair.bin") == 0);
  writer.finish();
  CHECK(names_in(folder.path() + "/new") == std::set<std::string>{"pair.bin", "pair.idx"});
  CHECK(read_file(folder.path() + "/new/pair.bin") == read_file("tests/data/golden/" + name + ".bin"));
  CHECK(read_file(folder.path() + "/new/pair.idx") == read_file("tests/data/golden/" + name + ".idx"));
}

TEST_CASE("a writer that does not finish leaves nothing, and none writes over what is there") {
  const TemporaryFolder folder;
  const int32_t token = 1;
  { MegatronWriter(real_fs(), folder.path() + "/pair", 256).add(&token, 1); }
  CHECK(names_in(folder.path()).empty());
  folder.write("pair.idx", "mine");
  CHECK(error_of([&] { MegatronWriter(real_fs(), folder.path() + "/pair", 256); }) ==
        folder.path() + "/pair.idx: is there already\n  remove it, or name another --output");
  CHECK(read_file(folder.path() + "/pair.idx") == "mine");
}

TEST_CASE("what is written is what the text component reads, whatever the number of threads") {
  const TemporaryFolder folder;
  const std::string model = GENERATE(std::string(), kModel);
  folder.write("in/a.txt", "the lazy fox");
  folder.write("in/empty.txt", "");
  folder.write("in/sub/b.txt", "吾輩は犬である。");
  std::string large;
  for (int i = 0; large.size() < (9u << 20) / 4; ++i) large += "line " + std::to_string(i) + " 猫\n";
  folder.write("in/large.txt", large);
  std::string unbroken; // without any newline: cut between characters
  while (unbroken.size() < (5u << 20) / 4) unbroken += "名前はまだ無い";
  folder.write("in/unbroken.txt", unbroken);
  for (const unsigned threads : {1u, 3u}) {
    const std::string prefix = folder.path() + "/out" + std::to_string(threads);
    write_pair({folder.path() + "/in"}, prefix, model, threads);
    CHECK(stream("megatron", {{"path", prefix}, {"tokenizer", model}, {"vocabulary", model.empty() ? "256" : ""}}) ==
          stream("text", {{"path", folder.path() + "/in"}, {"tokenizer", model}}));
  }
  CHECK(read_file(folder.path() + "/out1.bin") == read_file(folder.path() + "/out3.bin"));
  CHECK(read_file(folder.path() + "/out1.idx") == read_file(folder.path() + "/out3.idx"));
}

TEST_CASE("lines and JSON lines are documents, packed too") {
  const TemporaryFolder folder;
  const std::string lines = folder.write("a.txt", "one\n\ntwo\r\nthree");
  CHECK(documents({lines}, DocumentForm::kLine) == std::vector<std::string>{"one", "two", "three"});
  CHECK(documents({lines}, DocumentForm::kFile) == std::vector<std::string>{"one\n\ntwo\r\nthree"});
  const std::string long_line(3u << 20, 'x');
  const std::string json = folder.write(
      "b.jsonl", "{\"text\":\"a\\nb\"}\n{\"x\":1,\"text\":\"\\u732b\"}\n{\"text\":\"" + long_line + "\"}\n");
  CHECK(documents({json}, DocumentForm::kJsonl) == std::vector<std::string>{"a\nb", "猫", long_line});
  const std::string path = folder.path() + "/c.gz";
  const gzFile packed = gzopen(path.c_str(), "wb");
  gzputs(packed, "one\ntwo\n");
  gzclose(packed);
  CHECK(documents({path, lines}, DocumentForm::kLine) == std::vector<std::string>{"one", "two", "one", "two", "three"});
}

TEST_CASE("errors name the file and the place") {
  const TemporaryFolder folder;
  const std::string json = folder.write("a.jsonl", "{\"text\":\"a\"}\n{\"body\":\"b\"}\nno\n");
  CHECK(error_of([&] { documents({json}, DocumentForm::kJsonl); }).find(json + ":2: has no string \"text\"") == 0);
  const std::string wrong = folder.write("b.jsonl", "no\n");
  CHECK(error_of([&] { documents({wrong}, DocumentForm::kJsonl); }).find(wrong + ":1: is not a JSON object") == 0);
  CHECK(error_of([&] {
          documents({folder.path() + "/none"}, DocumentForm::kFile);
        }).find(folder.path() + "/none: cannot be read") == 0);
  std::filesystem::create_directory(folder.path() + "/nothing");
  CHECK(error_of([&] { documents({folder.path() + "/nothing"}, DocumentForm::kFile); }) ==
        folder.path() + "/nothing: there is no file in this folder");
}

TEST_CASE("the first error in the order of the text ends the run, and nothing is left behind") {
  // A tokenizer of the test's own, which refuses some texts.
  struct Refusing {
    static km_status encode(void*, const char* text, uint64_t bytes, int32_t* tokens, uint64_t capacity, uint64_t* n) {
      if (bytes > 3 && std::string(text, 3) == "bad") return KM_ERROR_USER;
      for (uint64_t i = 0; i < bytes && i < capacity; ++i) tokens[i] = 1;
      *n = bytes;
      return KM_OK;
    }
    static int32_t end_of_document(void*) { return 2; }
  };
  km_tokenizer table{};
  table.struct_size = sizeof table;
  table.encode = Refusing::encode;
  table.end_of_document = Refusing::end_of_document;
  const TemporaryFolder folder, out;
  for (int i = 10; i < 60; ++i)
    folder.write(std::to_string(i) + ".txt",
                 (i == 31 || i == 33 || i == 58 ? "bad" : "good") + std::string(300000, 'x'));
  const std::string error = error_of([&] {
    DocumentReader reader({folder.path()}, DocumentForm::kFile, "");
    MegatronWriter writer(real_fs(), out.path() + "/pair", 3);
    tokenize(reader, writer, {&table, nullptr, "data refusing", 4, true}, [] {});
    writer.finish();
  });
  CHECK(error.find(folder.path() + "/31.txt: data refusing") == 0);
  CHECK(names_in(out.path()).empty());
}

} // namespace kumiki::test
