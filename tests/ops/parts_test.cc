/* Ops that a rank runs on its part of a divided dimension, joined again, are the op on the whole. */
#include <catch2/catch.hpp>

#include "tests/ops/runner.h"

namespace kumiki::test {
namespace {

/* Runs lines on one component; inputs by name, all of them given. */
class Component {
 public:
  explicit Component(const std::string& path) : kernels_(host_, path) {}
  bool supported() const { return kernels_.supported(); }

  std::vector<Tensor> run(const std::string& line, const std::map<std::string, Tensor>& values) const {
    Problem p;
    parse_problem(line, p);
    std::vector<Tensor> inputs = random_inputs(p, 3, evaluate_with(kernels_));
    for (size_t i = 0; i < inputs.size(); ++i)
      if (const auto found = values.find(p.input_names[i]); found != values.end()) inputs[i] = found->second;
    RunResult result = run_problem(kernels_, p, inputs);
    INFO(line << ": " << result.reason);
    REQUIRE(result.supported);
    return std::move(result.outputs);
  }

  /* The inputs that `line` would get. */
  std::map<std::string, Tensor> values(const std::string& line) const {
    Problem p;
    parse_problem(line, p);
    std::vector<Tensor> inputs = random_inputs(p, 3, evaluate_with(kernels_));
    std::map<std::string, Tensor> named;
    for (size_t i = 0; i < inputs.size(); ++i) named[p.input_names[i]] = inputs[i];
    return named;
  }

 private:
  TestHost host_;
  KernelsPlugin kernels_;
};

/* Elements [begin, end) of dimension `dim`. */
Tensor part(const Tensor& whole, uint32_t dim, int64_t begin, int64_t end) {
  std::vector<int64_t> dims(whole.type.dims, whole.type.dims + whole.type.rank);
  int64_t inner = 1;
  for (size_t d = dim + 1; d < dims.size(); ++d) inner *= dims[d];
  const int64_t all = dims[dim];
  dims[dim] = end - begin;
  Tensor t = make_tensor(whole.type.dtype, dims);
  for (int64_t i = 0; i < t.size(); ++i) {
    const int64_t outer = i / ((end - begin) * inner), rest = i % ((end - begin) * inner);
    t.set(i, whole.at((outer * all + begin) * inner + rest));
  }
  return t;
}

enum class Join { kSum, kMaximum };
void join(Tensor& into, const Tensor& other, Join how) {
  for (int64_t i = 0; i < into.size(); ++i)
    into.set(i, how == Join::kSum ? into.at(i) + other.at(i) : std::max(into.at(i), other.at(i)));
}

std::string text(const char* format, auto... numbers) {
  char buffer[200];
  std::snprintf(buffer, sizeof buffer, format, numbers...);
  return buffer;
}

const char* const kComponents[] = {"plugins/kernels/reference/reference.so", "plugins/kernels/generic/generic.so"};
constexpr int kCuts[] = {0, 40, 41, 131}; // uneven on purpose

TEST_CASE("cross entropy of a divided vocabulary is that of the joined logits, with its gradient") {
  for (const char* path : kComponents) {
    const Component component(path);
    if (!component.supported()) continue;
    INFO(path);
    std::map<std::string, Tensor> values = component.values("cross_entropy_backward logits=2x9x131");
    const Tensor logits = values.at("logits");
    const std::vector<Tensor> whole = component.run("cross_entropy logits=2x9x131", values);
    const Tensor gradient = component.run("cross_entropy_backward logits=2x9x131", values)[0];
    const auto columns = [&](int rank) { return part(logits, 2, kCuts[rank], kCuts[rank + 1]); };
    const auto line = [&](const char* op, int rank) {
      return text("%s logits=2x9x%d offset=%d", op, kCuts[rank + 1] - kCuts[rank], kCuts[rank]);
    };
    for (int rank = 0; rank < 3; ++rank) {
      values["logits"] = columns(rank);
      const Tensor maximum = component.run(text("row_max logits=2x9x%d", kCuts[rank + 1] - kCuts[rank]), values)[0];
      if (rank == 0)
        values["max"] = maximum;
      else
        join(values["max"], maximum, Join::kMaximum);
    }
    for (int rank = 0; rank < 3; ++rank) {
      values["logits"] = columns(rank);
      const std::vector<Tensor> made = component.run(line("row_exp_pick", rank), values);
      for (size_t o = 0; o < 2; ++o) {
        const char* name = o == 0 ? "sum_exp" : "picked";
        if (rank == 0)
          values[name] = made[o];
        else
          join(values[name], made[o], Join::kSum);
      }
    }
    for (int rank = 0; rank < 3; ++rank) {
      values["logits"] = columns(rank);
      const std::vector<Tensor> made = component.run(line("cross_entropy_parts", rank), values);
      CHECK(made[0].at(0) == Approx(whole[0].at(0)).epsilon(2e-6));
      CHECK(made[1].at(0) == whole[1].at(0));
      const Tensor d_logits = component.run(line("cross_entropy_parts_backward", rank), values)[0];
      CHECK(relative_error(d_logits, part(gradient, 2, kCuts[rank], kCuts[rank + 1])) <= 2e-6);
    }
  }
}

TEST_CASE("an embedding of divided rows adds up to the whole one; its gradient is the rows of the whole") {
  for (const char* path : kComponents) {
    const Component component(path);
    if (!component.supported()) continue;
    INFO(path);
    std::map<std::string, Tensor> values = component.values("embedding tokens=2x30 table=131x7");
    const Tensor table = values.at("table"), whole = component.run("embedding tokens=2x30 table=131x7", values)[0];
    values["dy"] = component.values("embedding_backward dy=2x30x7 rows=131").at("dy");
    const Tensor gradient = component.run("embedding_backward dy=2x30x7 rows=131", values)[0];
    Tensor sum = make_tensor(KM_F32, {2, 30, 7});
    for (int rank = 0; rank < 3; ++rank) {
      const int begin = kCuts[rank], rows = kCuts[rank + 1] - begin;
      values["table"] = part(table, 0, begin, begin + rows);
      join(sum, component.run(text("embedding tokens=2x30 table=%dx7 offset=%d", rows, begin), values)[0], Join::kSum);
      const Tensor made = component.run(text("embedding_backward dy=2x30x7 rows=%d offset=%d", rows, begin), values)[0];
      CHECK(made.bytes == part(gradient, 0, begin, begin + rows).bytes);
    }
    CHECK(sum.bytes == whole.bytes);
  }
}

TEST_CASE("positions and dropout of divided tokens are parts of the whole, bit for bit") {
  constexpr int kTokens = 12;
  for (const char* path : kComponents) {
    const Component component(path);
    if (!component.supported()) continue;
    INFO(path);
    for (const int width : {8, 7}) { // 7: parts begin between two draws of dropout
      std::map<std::string, Tensor> values =
          component.values(text("add_position x=3x%dx%d table=15x%d", kTokens, width, width));
      values["seed"] = component.values("dropout x=1x1").at("seed");
      values["sample"] = component.values("dropout x=1x1").at("sample");
      const Tensor x = values.at("x");
      const Tensor placed = component.run(text("add_position x=3x%dx%d table=15x%d", kTokens, width, width), values)[0];
      const std::string draw = " probability=0.4 stream=9";
      const Tensor dropped = component.run(text("dropout x=3x%dx%d", kTokens, width) + draw, values)[0];
      for (const int parts : {2, 3, 4}) {
        const int tokens = kTokens / parts;
        for (int rank = 0; rank < parts; ++rank) {
          const int begin = rank * tokens;
          values["x"] = part(x, 1, begin, begin + tokens);
          const Tensor a = component.run(
              text("add_position x=3x%dx%d table=15x%d offset=%d", tokens, width, width, begin), values)[0];
          CHECK(a.bytes == part(placed, 1, begin, begin + tokens).bytes);
          const Tensor b = component.run(
              text("dropout x=3x%dx%d offset=%d sample_elements=%d", tokens, width, begin * width, kTokens * width) +
                  draw,
              values)[0];
          CHECK(b.bytes == part(dropped, 1, begin, begin + tokens).bytes);
        }
      }
    }
  }
}

/* The tokens [first, first + n) and [second, second + n) of x, as one rank has them. */
Tensor two_ranges(const Tensor& x, int64_t first, int64_t second, int64_t n) {
  const Tensor a = part(x, 1, first, first + n), b = part(x, 1, second, second + n);
  std::vector<int64_t> dims(a.type.dims, a.type.dims + a.type.rank);
  dims[1] = 2 * n;
  Tensor t = make_tensor(x.type.dtype, dims);
  const int64_t run = a.size() / dims[0];
  for (int64_t i = 0; i < a.size(); ++i) {
    t.set(i / run * 2 * run + i % run, a.at(i));
    t.set((i / run * 2 + 1) * run + i % run, b.at(i));
  }
  return t;
}

TEST_CASE("tokens of two ranges stand where attributes say, bit for bit") {
  constexpr int kTokens = 12;
  for (const char* path : kComponents) {
    const Component component(path);
    if (!component.supported()) continue;
    INFO(path);
    for (const int width : {8, 14}) { // 14: with 1 or 3 tokens ranges begin between two draws of dropout
      std::map<std::string, Tensor> values =
          component.values(text("add_position x=3x%dx%d table=15x%d", kTokens, width, width));
      values["seed"] = component.values("dropout x=1x1").at("seed");
      values["sample"] = component.values("dropout x=1x1").at("sample");
      const Tensor x = values.at("x");
      const std::string draw = " probability=0.4 stream=9", rope = " head_width=2 base=50.0";
      const Tensor placed = component.run(text("add_position x=3x%dx%d table=15x%d", kTokens, width, width), values)[0];
      const Tensor dropped = component.run(text("dropout x=3x%dx%d", kTokens, width) + draw, values)[0];
      const Tensor turned = component.run(text("rope x=3x%dx%d", kTokens, width) + rope, values)[0];
      for (const int ranks : {2, 3, 6})
        for (int rank = 0; rank < ranks; ++rank) {
          const int n = kTokens / (2 * ranks), first = rank * n, second = (2 * ranks - 1 - rank) * n;
          values["x"] = two_ranges(x, first, second, n);
          const auto run = [&](const std::string& line, int unit, const std::string& rest) {
            const std::string at = text(" offset=%d fold=%d fold_offset=%d", first * unit, n * unit, second * unit);
            return component.run(line + at + rest, values)[0].bytes;
          };
          const std::string shape = text(" x=3x%dx%d", 2 * n, width);
          CHECK(run("add_position" + shape + text(" table=15x%d", width), 1, "") ==
                two_ranges(placed, first, second, n).bytes);
          CHECK(run("dropout" + shape, width, draw) == two_ranges(dropped, first, second, n).bytes);
          CHECK(run("rope" + shape, 1, rope) == two_ranges(turned, first, second, n).bytes);
        }
    }
  }
}

TEST_CASE("parts of attention over the keys of all ranks, merged, are attention, and so are their gradients") {
  constexpr int kChunk = 9;
  for (const char* path : kComponents) {
    const Component component(path);
    if (!component.supported()) continue;
    INFO(path);
    for (const int ranks : {2, 3}) {
      const int tokens = 2 * ranks * kChunk, own = 2 * kChunk;
      std::map<std::string, Tensor> values =
          component.values(text("attention_backward q=2x%dx32 k=2x%dx16 head_width=8", tokens, tokens));
      const std::string whole = text(" q=2x%dx32 k=2x%dx16 head_width=8", tokens, tokens);
      const std::vector<Tensor> attended = component.run("attention" + whole, values);
      values["o"] = attended[0], values["lse"] = attended[1];
      const std::vector<Tensor> expected = component.run("attention_backward" + whole, values);
      const auto of_rank = [&](const Tensor& t, int rank) {
        return two_ranges(t, rank * kChunk, (2 * ranks - 1 - rank) * kChunk, kChunk);
      };
      std::vector<Tensor> dk(static_cast<size_t>(ranks)), dv = dk;
      for (int rank = 0; rank < ranks; ++rank) {
        std::map<std::string, Tensor> mine = {{"q", of_rank(values["q"], rank)}, {"d_o", of_rank(values["d_o"], rank)}};
        std::map<std::string, Tensor> parts;
        std::vector<std::string> lines;
        for (int other = 0; other < ranks; ++other) {
          const char* seen = other == rank ? " mask=causal" : other < rank ? " keys=9" : " first=9";
          lines.push_back(text(" q=2x%dx32 k=2x%dx16 head_width=8", own, own) + seen);
          mine["k"] = of_rank(values["k"], other), mine["v"] = of_rank(values["v"], other);
          const std::vector<Tensor> part = component.run("attention_part" + lines.back(), mine);
          parts[other ? numbered("o", static_cast<size_t>(other)) : "q"] = part[0];
          parts[other ? numbered("lse", static_cast<size_t>(other)) : "lse"] = part[1];
        }
        std::string merge = text("attention_merge q=2x%dx32 head_width=8", own);
        for (int other = 1; other < ranks; ++other) merge += text(" o%d=2x%dx32 lse%d=2x4x%d", other, own, other, own);
        const std::vector<Tensor> merged = component.run(merge, parts);
        CHECK(relative_error(merged[0], of_rank(attended[0], rank)) < 1e-6);
        mine["o"] = merged[0], mine["lse"] = merged[1];
        Tensor dq;
        for (int other = 0; other < ranks; ++other) {
          mine["k"] = of_rank(values["k"], other), mine["v"] = of_rank(values["v"], other);
          const std::vector<Tensor> part =
              component.run("attention_part_backward" + lines[static_cast<size_t>(other)], mine);
          const auto add = [](Tensor& sum, const Tensor& more) {
            if (sum.bytes.empty())
              sum = more;
            else
              join(sum, more, Join::kSum);
          };
          add(dq, part[0]);
          add(dk[static_cast<size_t>(other)], part[1]);
          add(dv[static_cast<size_t>(other)], part[2]);
        }
        CHECK(relative_error(dq, of_rank(expected[0], rank)) < 1e-5);
      }
      for (int rank = 0; rank < ranks; ++rank) {
        CHECK(relative_error(dk[static_cast<size_t>(rank)], of_rank(expected[1], rank)) < 1e-5);
        CHECK(relative_error(dv[static_cast<size_t>(rank)], of_rank(expected[2], rank)) < 1e-5);
      }
    }
  }
}

} // namespace
} // namespace kumiki::test
