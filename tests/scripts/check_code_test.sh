#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check_code_test.sh WORK_DIR: check_parameters.sh and check_style.sh accept good code and report bad code, by its line.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tree=${1:?usage: check_code_test.sh WORK_DIR}/code_tree
failures=0

# expect NAME CHECK LINES: the checker reports exactly these lines of the header on standard input.
expect() {
    rm -rf "$tree"
    mkdir -p "$tree/include" "$tree/examples" "$tree/tests/scripts" "$tree/bench"
    cp "$here"/*.awk "$tree/tests/scripts/"
    cat >"$tree/include/a.hpp"
    case $2 in
    parameters) found=$(sh "$here/check_parameters.sh" "$tree/include") || true ;;
    style) found=$(sh "$here/check_style.sh" "$tree") || true ;;
    esac
    lines=$(echo "$found" | sed -n 's/^[^ ]*a\.hpp:\([0-9]*\):.*/\1/p' | tr '\n' ' ')
    if [ "$lines" != "$3" ]; then
        echo "$1: lines '$lines', expected '$3'"
        echo "$found"
        failures=$((failures + 1))
    fi
}

expect "functions and constructors of every kind" parameters "4 6 10 17 19 21 " <<'END'
namespace a {
void six(int, int, int, int, int, int);
// A comment, with (a, b, c, d, e, f, g).
void seven(int a, int b, int c, int d, int e, int f, int g);

template <class A, class B, class C, class D, class E, class F, class G>
void defaults(std::map<A, B> a = {}, int b = f(1, 2), C c = C{1, 2}, D d = {}, E e = {},
              F f = "a, b", G g = ',');
void pairs(std::map<int, int> a, std::map<int, int> b, std::function<void(int, int)> c, int (*d)(int, int));
template <class D>
    requires(sizeof(D) > 1 && true)
[[nodiscard]] auto required(D a, D b, D c, D d, D e, D f, D g) -> std::pair<D, D> {
    return {a, b};
}
class Holder {
public:
    Holder(int a, int b, int c, int d, int e, int f, int g)
        : a_(a), b_{b, c}, c_(f(d, e)) {}
    static Holder make(int a, int b, int c, int d, int e,
                       int f, int g) noexcept;
    bool operator()(int a, int b, int c, int d, int e, int f, int g) const { return a < b; }
    int fine = f(1, 2, 3, 4, 5, 6, 7), other{1, 2};

private:
    void hidden(int a, int b, int c, int d, int e, int f, int g);
};
namespace detail {
void inner(int a, int b, int c, int d, int e, int f, int g);
}
inline int body() {
    call(1, 2, 3, 4, 5, 6, 7);
    const auto local = [](int a, int b, int c, int d, int e, int f, int g) { return a; };
    return local(1, 2, 3, 4, 5, 6, 7);
}
template <class D>
concept Big = requires(D a, D b, D c, D d, D e, D f, D g) { a(b, c); };
}
END

expect "statements chained by commas" style "4 5 6 8 11 12 14 " <<'END'
struct S { int a = 1, b = 2; };
inline int f(int a, int b) {
    int c = 1, d = 2;
    a = 1, b = 2;
    if (a) b = 1, c = 2;
    for (int i = 0, j = 1; i < j; ++i, --j) ++a, ++b;
    const auto g = [&](int x, int y) {
        x = 1, y = 2;
        return x;
    };
    g(a, b), g(b, a);
    switch (a) { case 1: a = 1, b = 2; break; default: break; }
    // a = 1, b = 2;
    return a = 1, b;
}
inline std::map<int, int> h() {
    std::map<int, int> m = {{1, 2}, {3, 4}};
    m = std::map<int, int>{{1, 2}};
    call<int, int>(1, 2);
    return std::map<int, int>{{1, 2}, {3, 4}};
}
END

[ "$failures" -eq 0 ] && echo "the checks of the code see what they must"
