import numpy as np

from lmadapt.models.questions import Question
from lmadapt.models.token_trees import TokenTree, pack_trees


def test_tokens_that_questions_share_are_in_the_tree_once() -> None:
    questions = [Question([2, 5, 6, number], [[7, 8], [7, 9]]) for number in range(10, 14)]
    (tree,) = pack_trees(questions, 256)
    assert len(tree.tokens) == 3 + 4 * (1 + 3)


def test_a_tree_stays_within_its_limit_unless_one_question_is_longer() -> None:
    questions = [Question([number] * 10, [[7, 8]]) for number in range(6)]
    long = Question([9] * 40, [[7]])
    sizes = [len(tree.tokens) for tree in pack_trees([*questions, long], 30)]
    assert sizes == [24, 24, 24, 41]


def test_a_node_sees_itself_and_its_ancestors() -> None:
    tree = TokenTree()
    first = tree.extend(-1, [5, 6])
    tree.extend(first[0], [7])
    assert np.array_equal(tree.visible(), np.array([[1, 0, 0], [1, 1, 0], [1, 0, 1]], bool))
    assert tree.depths == [0, 1, 1]
