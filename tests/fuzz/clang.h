#pragma once
// Included before everything when clang builds the fuzz targets with libstdc++: a Node holds a list of pairs of which a Node is a part, and clang
// asks whether a Node can be made of nothing while it is still finding out how one is destroyed. The answer is given beforehand.
#include <string>
#include <utility>

namespace attar {
struct Node;
}
template <>
struct std::__is_implicitly_default_constructible<attar::Node> : std::true_type {};
