// Each optimizer's graph, run on the reference kernels, against its published formula written down once more in double:
// five steps on a wide and a tall matrix, an embedding and a vector.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <functional>

#include "kumiki/optimizer.h"
#include "tests/models/interpreter.h"

namespace kumiki::test {
namespace {

using Options = std::map<std::string, std::string>;
using Doubles = std::vector<double>;

constexpr double kRate = 0.02, kScale = 0.125;
constexpr int kSteps = 5;

// One parameter as the formulas see it, with what the optimizer keeps for it.
struct Subject {
  std::string name;
  int64_t rows, columns; // a vector: columns 1
  bool matrix, hidden, decays;
  Doubles p;
  std::map<std::string, Doubles> state;
  Doubles& kept(const std::string& key) {
    Doubles& s = state[key];
    s.resize(p.size());
    return s;
  }
};

// One step of one parameter: g is the true gradient, step counts from 1.
using Formula = std::function<void(Subject&, const Doubles& g, int step)>;

// The example of an outside author is held to the same.
std::string path_of(const std::string& optimizer) {
  return optimizer == "novograd" ? "tests/optimizers/novograd.so"
                                 : "plugins/optimizers/standard/" + optimizer + "/" + optimizer + ".so";
}

double gradient_at(size_t subject, int step, size_t i) {
  return std::sin(1.7 * static_cast<double>(i) + 0.9 * step + 3.1 * static_cast<double>(subject)) *
         (i % 7 == 3 ? 4 : 1);
}

double norm(const Doubles& x) {
  double sum = 0;
  for (const double e : x) sum += e * e;
  return std::sqrt(sum);
}

class Bench {
 public:
  Bench(const std::string& optimizer, const Options& options)
      : optimizer_(path_of(optimizer), "optimizer", options),
        kernels_("plugins/kernels/reference/reference.so", "kernels") {
    add("layers.0.wide.weight", 3, 5, true, true);
    add("layers.0.tall.weight", 6, 4, true, true);
    add("embedding.weight", 5, 4, true, false);
    add("layers.0.bias", 7, 1, false, true);
    graph_.check();
  }

  // Five steps of both; elements agree to 2e-6 of the parameter's size.
  void compare(const Formula& formula) {
    Interpreter run(graph_, kernels_);
    for (const Subject& s : subjects_) run.set(s.name, to_float(s.p));
    run.set("learning_rate", {static_cast<float>(kRate)});
    run.set("gradient_scale", {static_cast<float>(kScale)});
    run.set("apply", {1});
    for (int step = 1; step <= kSteps; ++step) {
      run.set("step", {static_cast<float>(step)});
      for (size_t k = 0; k < subjects_.size(); ++k) {
        Doubles g(subjects_[k].p.size());
        for (size_t i = 0; i < g.size(); ++i) g[i] = gradient_at(k, step, i);
        run.set("gradient of " + subjects_[k].name, to_float(g));
        for (double& e : g) e *= kScale;
        formula(subjects_[k], g, step);
      }
      run.run();
      for (const Subject& s : subjects_) {
        INFO(s.name << ", step " << step);
        const std::vector<float> now = run.get(s.name);
        double worst = 0;
        for (size_t i = 0; i < now.size(); ++i) worst = std::max(worst, std::abs(now[i] - s.p[i]));
        CHECK(worst < 2e-6 * std::max(1.0, norm(s.p)));
      }
    }
  }

  // With "apply" 0 and gradients that are no numbers, parameters and states keep their bits.
  void check_apply() {
    Interpreter run(graph_, kernels_);
    for (const Subject& s : subjects_) {
      run.set(s.name, to_float(s.p));
      run.set("gradient of " + s.name, std::vector<float>(s.p.size(), NAN));
    }
    run.set("learning_rate", {static_cast<float>(kRate)});
    run.set("step", {1});
    std::map<ValueId, std::vector<float>> before;
    for (const ValueId state : graph_.states())
      if (graph_.value(state).owner) {
        std::vector<float> some(static_cast<size_t>(graph_.value(state).type.elements()), 0.5f);
        run.set(state, some);
        before[state] = some;
      }
    run.run();
    for (const Subject& s : subjects_) CHECK(run.get(s.name) == to_float(s.p));
    for (const auto& [state, elements] : before) {
      INFO(graph_.value(state).name);
      CHECK(run.get(state) == elements);
    }
  }

  size_t states() const { return graph_.states().size() - subjects_.size(); }
  uint32_t says() const { return optimizer_.table<km_optimizer>().update_kind; }
  bool has(const std::string& op) const {
    const auto is_op = [&](NodeId id) { return graph_.node(id).op == op; };
    return std::any_of(graph_.order().begin(), graph_.order().end(), is_op);
  }

 private:
  static std::vector<float> to_float(const Doubles& x) { return {x.begin(), x.end()}; }

  void add(const std::string& name, int64_t rows, int64_t columns, bool matrix, bool inside) {
    Subject s = {name, rows, columns, matrix, matrix && inside, matrix, {}, {}};
    for (int64_t i = 0; i < rows * columns; ++i)
      s.p.push_back(static_cast<float>(0.5 * std::cos(0.7 * static_cast<double>(i) + static_cast<double>(rows))));
    const Type type = {KM_F32, matrix ? Shape{rows, columns} : Shape{rows}};
    graph_.cursor.layer = inside ? 0 : -1;
    graph_.cursor.phase = Phase::kTail;
    const uint32_t role = inside ? KM_ROLE_REPLICATED : KM_ROLE_VOCABULARY;
    const ValueId parameter = graph_.add_parameter(name, type, role, KM_INIT_ZERO, 0, matrix);
    const ValueId gradient = graph_.add_state(0, "gradient of " + name, type);
    const auto& table = optimizer_.table<km_optimizer>();
    REQUIRE(table.update(optimizer_.self(), to_abi(&graph_), parameter, gradient) == KM_OK);
    REQUIRE(take_service_error() == "");
    subjects_.push_back(s);
  }

  Component optimizer_, kernels_;
  Graph graph_;
  std::vector<Subject> subjects_;
};

// ---- the formulas ------------------------------------------------------------------------------------------------

// Loshchilov and Hutter 2019, algorithm 2.
void adamw(Subject& s, const Doubles& g, int step, double rate, double b1, double b2, double epsilon, double decay) {
  Doubles &m = s.kept("m"), &v = s.kept("v");
  for (size_t i = 0; i < g.size(); ++i) {
    m[i] = b1 * m[i] + (1 - b1) * g[i];
    v[i] = b2 * v[i] + (1 - b2) * g[i] * g[i];
    const double direction = m[i] / (1 - std::pow(b1, step)) / (std::sqrt(v[i] / (1 - std::pow(b2, step))) + epsilon);
    s.p[i] -= rate * (direction + (s.decays ? decay : 0) * s.p[i]);
  }
}

Formula sgd(double momentum, bool nesterov, double decay) {
  return [=](Subject& s, const Doubles& gradient, int) {
    Doubles& b = s.kept("b");
    for (size_t i = 0; i < gradient.size(); ++i) {
      const double g = gradient[i] + (s.decays ? decay : 0) * s.p[i];
      b[i] = momentum * b[i] + g;
      s.p[i] -= kRate * (nesterov ? g + momentum * b[i] : b[i]);
    }
  };
}

// Chen et al. 2023, algorithm 2.
void lion(Subject& s, const Doubles& g, int, double b1, double b2, double decay) {
  Doubles& m = s.kept("m");
  for (size_t i = 0; i < g.size(); ++i) {
    const double c = b1 * m[i] + (1 - b1) * g[i];
    s.p[i] -= kRate * ((c > 0) - (c < 0) + (s.decays ? decay : 0) * s.p[i]);
    m[i] = b2 * m[i] + (1 - b2) * g[i];
  }
}

// You et al. 2020, algorithm 2.
void lamb(Subject& s, const Doubles& g, int step, double b1, double b2, double epsilon, double decay, double most) {
  Doubles &m = s.kept("m"), &v = s.kept("v");
  Doubles r(g.size());
  for (size_t i = 0; i < g.size(); ++i) {
    m[i] = b1 * m[i] + (1 - b1) * g[i];
    v[i] = b2 * v[i] + (1 - b2) * g[i] * g[i];
    r[i] = m[i] / (1 - std::pow(b1, step)) / (std::sqrt(v[i] / (1 - std::pow(b2, step))) + epsilon);
    if (s.decays) r[i] += decay * s.p[i];
  }
  double ratio = norm(s.p) > 0 && norm(r) > 0 ? norm(s.p) / norm(r) : 1;
  if (most > 0) ratio = std::min(ratio, most);
  if (!s.decays) ratio = 1;
  for (size_t i = 0; i < g.size(); ++i) s.p[i] -= kRate * ratio * r[i];
}

// x y of [n, k] and [k, m], row-major.
Doubles product(const Doubles& x, const Doubles& y, size_t n, size_t k, size_t m) {
  Doubles out(n * m);
  for (size_t i = 0; i < n; ++i)
    for (size_t j = 0; j < m; ++j)
      for (size_t l = 0; l < k; ++l) out[i * m + j] += x[i * k + l] * y[l * m + j];
  return out;
}
Doubles transposed(const Doubles& x, size_t n, size_t m) {
  Doubles out(n * m);
  for (size_t i = 0; i < n; ++i)
    for (size_t j = 0; j < m; ++j) out[j * n + i] = x[i * m + j];
  return out;
}

// Jordan 2024, zeropower_via_newtonschulz5: always with the short side first.
Doubles orthogonal(Doubles x, size_t n, size_t m, int steps) {
  const bool tall = n > m;
  if (tall) {
    x = transposed(x, n, m);
    std::swap(n, m);
  }
  const double length = norm(x) + 1e-7;
  for (double& e : x) e /= length;
  for (int step = 0; step < steps; ++step) {
    const Doubles a = product(x, transposed(x, n, m), n, m, n), aa = product(a, a, n, n, n);
    Doubles b(a.size());
    for (size_t i = 0; i < b.size(); ++i) b[i] = -4.7750 * a[i] + 2.0315 * aa[i];
    const Doubles bx = product(b, x, n, n, m);
    for (size_t i = 0; i < x.size(); ++i) x[i] = 3.4445 * x[i] + bx[i];
  }
  return tall ? transposed(x, n, m) : x;
}

Formula muon(bool nesterov, bool rms, double decay, double adam_rate) {
  return [=](Subject& s, const Doubles& g, int step) {
    if (!s.hidden) return adamw(s, g, step, kRate * adam_rate, 0.9, 0.95, 1e-8, decay);
    constexpr double kMomentum = 0.95;
    Doubles &b = s.kept("b"), u(g.size());
    for (size_t i = 0; i < g.size(); ++i) {
      b[i] += (1 - kMomentum) * (g[i] - b[i]);
      u[i] = nesterov ? g[i] + kMomentum * (b[i] - g[i]) : b[i];
    }
    u = orthogonal(u, static_cast<size_t>(s.rows), static_cast<size_t>(s.columns), 5);
    const double rows = static_cast<double>(s.rows), columns = static_cast<double>(s.columns);
    const double size = rms ? 0.2 * std::sqrt(std::max(rows, columns)) : std::sqrt(std::max(1.0, rows / columns));
    for (size_t i = 0; i < g.size(); ++i) s.p[i] -= kRate * (size * u[i] + decay * s.p[i]);
  };
}

// Ginsburg et al. 2019, algorithm 1: one second moment a tensor.
void novograd(Subject& s, const Doubles& g, int step, double b1, double b2, double epsilon, double decay) {
  Doubles &m = s.kept("m"), &v = s.kept("v");
  const double square = norm(g) * norm(g);
  v[0] = step == 1 ? square : b2 * v[0] + (1 - b2) * square;
  for (size_t i = 0; i < g.size(); ++i) {
    m[i] = b1 * m[i] + g[i] / (std::sqrt(v[0]) + epsilon) + (s.decays ? decay : 0) * s.p[i];
    s.p[i] -= kRate * m[i];
  }
}

// ---- cases -------------------------------------------------------------------------------------------------------

TEST_CASE("five steps of each optimizer are those of its formula") {
  struct Case {
    const char* optimizer;
    Options options;
    Formula formula;
    size_t states; // that it keeps for the four parameters
  };
  using namespace std::placeholders;
  const Case cases[] = {
      {"adamw", {}, std::bind(adamw, _1, _2, _3, kRate, 0.9, 0.95, 1e-8, 0.1), 8},
      {"adamw",
       {{"beta1", "0.8"}, {"beta2", "0.99"}, {"epsilon", "1e-3"}, {"weight_decay", "0.5"}},
       std::bind(adamw, _1, _2, _3, kRate, 0.8, 0.99, 1e-3, 0.5),
       8},
      {"sgd", {}, sgd(0, false, 0), 0},
      {"sgd", {{"momentum", "0.9"}, {"weight_decay", "0.3"}}, sgd(0.9, false, 0.3), 4},
      {"sgd", {{"momentum", "0.8"}, {"nesterov", "true"}, {"weight_decay", "0.1"}}, sgd(0.8, true, 0.1), 4},
      {"lion", {}, std::bind(lion, _1, _2, _3, 0.9, 0.99, 1.0), 4},
      {"lion",
       {{"beta1", "0.5"}, {"beta2", "0.7"}, {"weight_decay", "0"}},
       std::bind(lion, _1, _2, _3, 0.5, 0.7, 0.0),
       4},
      {"lamb", {}, std::bind(lamb, _1, _2, _3, 0.9, 0.999, 1e-6, 0.01, 0.0), 8},
      {"lamb",
       {{"beta1", "0.8"}, {"beta2", "0.9"}, {"weight_decay", "0.3"}, {"ratio_maximum", "0.4"}},
       std::bind(lamb, _1, _2, _3, 0.8, 0.9, 1e-6, 0.3, 0.4),
       8},
      {"novograd", {}, std::bind(novograd, _1, _2, _3, 0.95, 0.98, 1e-8, 0.001), 8},
      {"novograd",
       {{"beta1", "0.5"}, {"beta2", "0.7"}, {"epsilon", "0.1"}, {"weight_decay", "0.2"}},
       std::bind(novograd, _1, _2, _3, 0.5, 0.7, 0.1, 0.2),
       8},
      {"muon", {}, muon(true, false, 0, 0.015), 6},
      {"muon",
       {{"nesterov", "false"}, {"scale", "rms"}, {"weight_decay", "0.1"}, {"adam_rate", "1.0"}},
       muon(false, true, 0.1, 1.0),
       6},
  };
  for (const Case& c : cases) {
    INFO(c.optimizer << " with " << c.options.size() << " options");
    Bench bench(c.optimizer, c.options);
    CHECK(bench.states() == c.states);
    bench.compare(c.formula);
  }
}

TEST_CASE("where apply is 0 nothing changes, whatever the gradient is") {
  for (const char* optimizer : {"adamw", "sgd", "lion", "lamb", "muon", "novograd"}) {
    INFO(optimizer);
    Bench(optimizer, optimizer == std::string("sgd") ? Options{{"momentum", "0.9"}} : Options{}).check_apply();
  }
}

TEST_CASE("each optimizer says truly what its update needs of a tensor") {
  for (const std::string name : {"adamw", "sgd", "lion", "lamb", "muon", "novograd"}) {
    INFO(name);
    const Bench bench(name, {});
    const uint32_t needs = bench.has("matmul")        ? KM_UPDATE_WHOLE_MATRIX
                           : bench.has("tensor_norm") ? KM_UPDATE_PER_TENSOR
                                                      : KM_UPDATE_ELEMENTWISE;
    CHECK(bench.says() == needs);
  }
}

TEST_CASE("nesterov without momentum is refused with a remedy") {
  try {
    const Component sgd("plugins/optimizers/standard/sgd/sgd.so", "optimizer", {{"nesterov", "true"}});
    FAIL("opened");
  } catch (const std::runtime_error& error) {
    CHECK_THAT(error.what(), Catch::Contains("set momentum = 0.9"));
  }
}

} // namespace
} // namespace kumiki::test
