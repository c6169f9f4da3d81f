"""`sparsify`: a trained DenseNet in, a smaller one out."""
