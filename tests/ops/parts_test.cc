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

} // namespace
} // namespace kumiki::test
