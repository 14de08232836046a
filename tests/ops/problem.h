/* problem.h: one op with shapes, attributes and values, written as one line of text that anyone can run again:
 *
 *   matmul a=5x7 b=3x7 transpose_b=1
 *   attention q=2x9x32 k=2x9x16 head_width=8 mask=segments
 *   adamw_update p=7x3 apply=[]@0 beta1=0.9
 *
 * An input is NAME=SHAPE[:TYPE][@VALUE] ("[]" is rank 0; the types are f32, bf16, i32, i64); inputs that follow from
 * others, or that are as a rule [] (k of attention as q; mean, rstd, weight; learning_rate), may be left out.
 * Everything else is an attribute. Outputs and the addends of `accumulate` follow from docs/ops.md. */
#ifndef KUMIKI_TESTS_OPS_PROBLEM_H
#define KUMIKI_TESTS_OPS_PROBLEM_H

#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "kumiki/base.h"

namespace kumiki::test {

/* A tensor with its values on the host. */
struct Tensor {
  km_tensor type{};
  std::vector<std::byte> bytes;

  double at(int64_t i) const; /* of any type */
  void set(int64_t i, double value);
  int64_t size() const { return km_elements(&type); }
};

/* "prefix7" */
std::string numbered(const char* prefix, size_t number);

Tensor make_tensor(uint32_t dtype, const std::vector<int64_t>& dims);

/* Move-only in spirit: the op's strings point into `texts`; so it is kept by unique address (std::deque does not move
 * them). */
struct Problem {
  std::string line, op_name;
  std::vector<std::string> input_names;         /* without addends */
  std::vector<km_tensor> inputs, outputs;       /* inputs with the addends at the end */
  std::vector<std::optional<double>> constants; /* @VALUE of each input */
  std::vector<km_attribute> attributes;
  std::deque<std::string> texts;
  uint32_t addends = 0;

  Problem() = default;
  Problem(const Problem&) = delete;
  Problem& operator=(const Problem&) = delete;

  km_op op() const;
  int64_t attribute_i64(const char* name, int64_t otherwise) const;
  std::string attribute_string(const char* name, const std::string& otherwise) const;
  /* The place of an input, or -1. */
  int find_input(const std::string& name) const;
};

/* Throws std::runtime_error on a line that is none. */
void parse_problem(const std::string& line, Problem& problem);

/* All op names that parse_problem knows: the whole of docs/ops.md but for the planner's own. */
std::vector<std::string> vocabulary();

/* Computes the outputs of a problem from its inputs: the reference. */
using Evaluate = std::function<std::vector<Tensor>(const Problem&, const std::vector<Tensor>&)>;

/* Random values for all inputs (addends too), fit for the op: logarithms get positive numbers, tokens lie in the
 * vocabulary, mean, rstd, o and lse are those that the forward op gives. */
std::vector<Tensor> random_inputs(const Problem& problem, uint64_t seed, const Evaluate& evaluate);

} // namespace kumiki::test

#endif
