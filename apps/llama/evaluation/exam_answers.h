// What counts as the answer in a text that L-Eval's closed tasks (An et al. 2023) are answered
// with, and when it is the right one: the rules of its scripts, odd ones among them.
#pragma once
#include <string>

namespace mullion {

// The letters A to D that a right answer begins with: "(B) It ...", "AC"; "A" where there are none.
std::string right_letters(const std::string& right);
// The letter that a text chooses, the first of A to D; with `several` (Coursera), all that it
// begins with or that stand before a space, a full stop or a bracket, sorted, else the first run of
// such letters; "A" where there are none, "None" for a text of spaces.
std::string chosen_letters(const std::string& answer, bool several);
// The digits of the number after "The answer is", else of the first paragraph's last word that has
// one, up to its point.
std::string number_in(const std::string& answer);
// The last words of what a program is said to print, as many as the right answer has and three.
std::string printed_value(const std::string& answer, const std::string& right);
std::string plain_code(const std::string& text);
// The first of "true" and "false" in the words of a text; "<error>" where there is neither.
std::string judgement(const std::string& answer);

// 1, 0, or 0.25 where the letters chosen are some of several right ones. Numbers are compared as
// such; other answers are right where they contain the right one, without case and spaces.
double exact_match(const std::string& answer, const std::string& right);

}  // namespace mullion
